// Package logging is an in-memory double of Cloud Logging: entries are written, listed page by page, and tailed.
//
// It has what a client can see: ids that make repeats harmless, limits of entries and requests, partial success, order, page
// tokens that belong to one query, a quota of reads, and what a tail does not show. It has no routing, buckets, or access
// control.
package logging

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	// Payloads of audit logs are shown in JSON.
	_ "google.golang.org/genproto/googleapis/cloud/audit"
	ltype "google.golang.org/genproto/googleapis/logging/type"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sawlog.test/doubles/internal/filter"
)

const (
	entryBytesMax   = 256 << 10
	requestBytesMax = 10 << 20
	pageDefault     = 50
	pageMax         = 1_000
)

// Server is the double.
type Server struct {
	loggingpb.UnimplementedLoggingServiceV2Server

	mutex sync.Mutex
	// In the order of writing.
	entries []*entry
	known   map[string]bool
	nextID  uint64
	// Closed and made anew when there is something for tails.
	changed chan struct{}
	// What tails did not show, in the order in which it was told.
	suppressed []*loggingpb.TailLogEntriesResponse_SuppressionInfo
	// Most reads of a minute; 0 for no limit. And when they were.
	readsPerMinute int
	reads          []time.Time
	// How long a list does not show an entry yet.
	listDelay time.Duration
}

type entry struct {
	message *loggingpb.LogEntry
	// Its JSON form, for filters.
	fields map[string]any
}

// New makes a double without entries.
func New() *Server {
	return &Server{known: map[string]bool{}, changed: make(chan struct{})}
}

// SetReadsPerMinute limits reads from now on.
func (s *Server) SetReadsPerMinute(reads int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.readsPerMinute, s.reads = reads, nil
}

// SetListDelay makes lists show entries only so long after they were written, as the service's index may.
func (s *Server) SetListDelay(delay time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.listDelay = delay
}

// Suppress tells running tails that they lack entries.
func (s *Server) Suppress(reason loggingpb.TailLogEntriesResponse_SuppressionInfo_Reason, count int32) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	info := &loggingpb.TailLogEntriesResponse_SuppressionInfo{Reason: reason, SuppressedCount: count}
	s.suppressed = append(s.suppressed, info)
	s.wake()
}

func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// WriteLogEntries takes entries in.
func (s *Server) WriteLogEntries(_ context.Context, request *loggingpb.WriteLogEntriesRequest) (*loggingpb.WriteLogEntriesResponse, error) {
	if proto.Size(request) > requestBytesMax {
		return nil, status.Error(codes.InvalidArgument, "The request is larger than 10 MB.")
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	failed := map[int32]*status.Status{}
	var ready []*entry
	for at, message := range request.Entries {
		one, err := s.complete(request, message)
		if err != nil {
			failed[int32(at)] = status.Convert(err)
			continue
		}
		ready = append(ready, one)
	}
	if len(failed) > 0 && !request.PartialSuccess {
		ready = nil
	}
	if !request.DryRun {
		for _, one := range ready {
			s.keep(one)
		}
		s.wake()
	}
	if len(failed) == 0 {
		return &loggingpb.WriteLogEntriesResponse{}, nil
	}
	return nil, partial(failed)
}

// partial is the answer when entries failed: the status of one of them, and all of them beside it.
func partial(failed map[int32]*status.Status) error {
	details := &loggingpb.WriteLogEntriesPartialErrors{}
	first := int32(1 << 30)
	for at, one := range failed {
		first = min(first, at)
		proto.Merge(details, &loggingpb.WriteLogEntriesPartialErrors{LogEntryErrors: map[int32]*rpcstatus.Status{at: one.Proto()}})
	}
	answer, err := failed[first].WithDetails(details)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return answer.Err()
}

// complete fills what the request says for all entries, and what the service adds.
func (s *Server) complete(request *loggingpb.WriteLogEntriesRequest, message *loggingpb.LogEntry) (*entry, error) {
	message = proto.Clone(message).(*loggingpb.LogEntry)
	message.LogName = cmp.Or(message.LogName, request.LogName)
	if message.Resource == nil {
		message.Resource = request.Resource
	}
	for key, value := range request.Labels {
		if message.Labels == nil {
			message.Labels = map[string]string{}
		}
		if _, has := message.Labels[key]; !has {
			message.Labels[key] = value
		}
	}
	switch {
	case len(strings.Split(message.LogName, "/")) != 4 || !strings.Contains(message.LogName, "/logs/"):
		return nil, status.Errorf(codes.InvalidArgument, "The log name %q is none.", message.LogName)
	case message.Resource.GetType() == "":
		return nil, status.Error(codes.InvalidArgument, "An entry needs a monitored resource.")
	case message.Payload == nil && message.HttpRequest == nil:
		return nil, status.Error(codes.InvalidArgument, "An entry needs a payload.")
	case proto.Size(message) > entryBytesMax:
		return nil, status.Error(codes.InvalidArgument, "An entry is larger than 256 KB.")
	}
	now := time.Now()
	if message.Timestamp == nil {
		message.Timestamp = timestamppb.New(now)
	}
	if message.Timestamp.AsTime().After(now.Add(24 * time.Hour)) {
		return nil, status.Error(codes.InvalidArgument, "The timestamp is more than a day ahead.")
	}
	if message.InsertId == "" {
		s.nextID++
		message.InsertId = fmt.Sprintf("double-%016x", s.nextID)
	}
	message.ReceiveTimestamp = timestamppb.New(now)
	text, err := protojson.Marshal(message)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	one := &entry{message: message}
	return one, json.Unmarshal(text, &one.fields)
}

// keep adds an entry unless it is there: the same log, time and id. The caller holds the lock.
func (s *Server) keep(one *entry) {
	message := one.message
	key := fmt.Sprintf("%s\n%d\n%s", message.LogName, message.Timestamp.AsTime().UnixNano(), message.InsertId)
	if !s.known[key] {
		s.known[key] = true
		s.entries = append(s.entries, one)
	}
}

// Severity and times are no texts.
var comparisons = map[string]filter.Compare{
	"timestamp":        filter.Time,
	"receiveTimestamp": filter.Time,
	"severity": func(found any, wanted string) (int, bool) {
		name, _ := found.(string)
		number, known := ltype.LogSeverity_value[strings.ToUpper(wanted)]
		return int(ltype.LogSeverity_value[name] - number), known
	},
}

// passes says which entries a query is about.
func passes(resources []string, text string) (filter.Filter, error) {
	if len(resources) == 0 {
		return nil, status.Error(codes.InvalidArgument, "A query names a resource.")
	}
	found, err := filter.Parse(text, comparisons)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return func(fields map[string]any) bool {
		isIn := func(resource string) bool {
			name, _ := fields["logName"].(string)
			return strings.HasPrefix(name, resource+"/logs/")
		}
		return slices.ContainsFunc(resources, isIn) && found(fields)
	}, nil
}

// token is where the next page begins: after how many entries of the query.
type token struct {
	Query string
	Nanos int64
	ID    string
	Log   string
}

func (t token) before(one *entry, isDescending bool) bool {
	order := compare(t.Nanos, t.ID, t.Log, one)
	return order < 0 && !isDescending || order > 0 && isDescending
}

func compare(nanos int64, id, log string, one *entry) int {
	other := one.message
	return cmp.Or(
		cmp.Compare(nanos, other.Timestamp.AsTime().UnixNano()),
		cmp.Compare(id, other.InsertId),
		cmp.Compare(log, other.LogName),
	)
}

func position(one *entry, query string) token {
	return token{query, one.message.Timestamp.AsTime().UnixNano(), one.message.InsertId, one.message.LogName}
}

// ListLogEntries answers with a page.
func (s *Server) ListLogEntries(_ context.Context, request *loggingpb.ListLogEntriesRequest) (*loggingpb.ListLogEntriesResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.countRead(); err != nil {
		return nil, err
	}
	isDescending := request.OrderBy == "timestamp desc"
	if !isDescending && request.OrderBy != "" && request.OrderBy != "timestamp asc" {
		return nil, status.Errorf(codes.InvalidArgument, "Entries are not ordered by %q.", request.OrderBy)
	}
	if request.PageSize < 0 || request.PageSize > pageMax {
		return nil, status.Error(codes.InvalidArgument, "A page has at most 1000 entries.")
	}
	query := queryOf(request)
	from, err := read(request.PageToken, query)
	if err != nil {
		return nil, err
	}
	wanted, err := passes(request.ResourceNames, request.Filter)
	if err != nil {
		return nil, err
	}
	var found []*entry
	shown := time.Now().Add(-s.listDelay)
	for _, one := range s.entries {
		if one.message.ReceiveTimestamp.AsTime().After(shown) {
			continue
		}
		if (from == nil || from.before(one, isDescending)) && wanted(one.fields) {
			found = append(found, one)
		}
	}
	sort.Slice(found, func(a, b int) bool {
		return position(found[a], "").before(found[b], isDescending)
	})
	size := cmp.Or(int(request.PageSize), pageDefault)
	answer := &loggingpb.ListLogEntriesResponse{}
	if len(found) > size {
		found = found[:size]
		text, err := json.Marshal(position(found[size-1], query))
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		answer.NextPageToken = base64.URLEncoding.EncodeToString(text)
	}
	for _, one := range found {
		answer.Entries = append(answer.Entries, one.message)
	}
	return answer, nil
}

func (s *Server) countRead() error {
	now := time.Now()
	s.reads = slices.DeleteFunc(s.reads, func(read time.Time) bool { return now.Sub(read) > time.Minute })
	if s.readsPerMinute > 0 && len(s.reads) >= s.readsPerMinute {
		return status.Error(codes.ResourceExhausted, "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute'.")
	}
	s.reads = append(s.reads, now)
	return nil
}

// queryOf is what must be the same for all pages.
func queryOf(request *loggingpb.ListLogEntriesRequest) string {
	text := fmt.Sprintf("%q %q %q", request.ResourceNames, request.Filter, request.OrderBy)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

func read(text, query string) (*token, error) {
	if text == "" {
		return nil, nil
	}
	found := &token{}
	decoded, err := base64.URLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(decoded, found)
	}
	if err != nil || found.Query != query {
		return nil, status.Error(codes.InvalidArgument, "page_token doesn't match arguments from the request")
	}
	return found, nil
}

// ListLogs names the logs that have entries.
func (s *Server) ListLogs(_ context.Context, request *loggingpb.ListLogsRequest) (*loggingpb.ListLogsResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	answer := &loggingpb.ListLogsResponse{}
	for _, one := range s.entries {
		name := one.message.LogName
		if strings.HasPrefix(name, request.Parent+"/logs/") && !slices.Contains(answer.LogNames, name) {
			answer.LogNames = append(answer.LogNames, name)
		}
	}
	slices.Sort(answer.LogNames)
	return answer, nil
}
