// Package bigtable lets Google's in-memory Bigtable fail as a test wants it.
//
// Faults are set over HTTP: POST /faults with a Fault takes the place of what was set, DELETE /faults ends it, GET /calls
// tells how many calls there were, GET /splits at how many keys tables were cut, GET /authorizations what calls were authorized with, PUT /_denied takes permissions away. What the double cannot show is in docs/gcp/bigtable.md.
package bigtable

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	"cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"sawlog.test/doubles/internal/permissions"
)

// Instance is the id of the only instance, and Zone where it is.
const (
	Instance = "instance"
	Zone     = "us-central1-b"
)

// Fault is what becomes of calls.
type Fault struct {
	// Method is the name of the call, such as MutateRows.
	Method string `json:"method"`
	// Skip is how many calls go well before the first that fails.
	Skip int `json:"skip"`
	// Times is how many fail.
	Times int `json:"times"`
	// Code of the status, such as UNAVAILABLE.
	Code codes.Code `json:"code"`
	// When it fails: "before" or "after" it was done, "partly" (every second entry of MutateRows), "amid" its answers (after
	// one of them, or as many as Answers says), "hang" for as long as the caller waits, "delay" (it is done, later),
	// "reset" (it is done, and all connections are cut off before the answer).
	When string `json:"when"`
	// Answers that come before a failure amid them.
	Answers int `json:"answers"`
	// DelayMillis is how much later a delayed call is done.
	DelayMillis int `json:"delay_ms"`
	// RetryMillis is how long the error asks to be left alone.
	RetryMillis int `json:"retry_ms"`
}

// Faults decides what becomes of calls.
type Faults struct {
	mutex       sync.Mutex
	fault       Fault
	calls       map[string]int
	connections map[net.Conn]struct{}
	denied      permissions.Denied
	// Tables that were made, with the number of keys that they were cut at.
	splits [][2]any
	// What calls were authorized with, each once.
	authorizations map[string]bool
}

// NewFaults lets all calls go well.
func NewFaults() *Faults {
	return &Faults{calls: map[string]int{}, connections: map[net.Conn]struct{}{}, authorizations: map[string]bool{}}
}

// Options make a server ask before each call.
func (f *Faults) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.UnaryInterceptor(f.unary), grpc.StreamInterceptor(f.stream)}
}

// Listen keeps the connections of a listener, to cut them off.
func (f *Faults) Listen(listener net.Listener) net.Listener {
	return &keeper{listener, f}
}

type keeper struct {
	net.Listener
	faults *Faults
}

func (k *keeper) Accept() (net.Conn, error) {
	connection, err := k.Listener.Accept()
	if err == nil {
		k.faults.mutex.Lock()
		k.faults.connections[connection] = struct{}{}
		k.faults.mutex.Unlock()
	}
	return connection, err
}

func (f *Faults) cutOff() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for connection := range f.connections {
		_ = connection.Close()
	}
	clear(f.connections)
}

// take counts a call and tells what becomes of it.
func (f *Faults) take(ctx context.Context, method string) (Fault, bool) {
	method = path.Base(method)
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, authorization := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		f.authorizations[authorization] = true
	}
	f.calls[method]++
	if f.fault.Method != method || f.fault.Times == 0 {
		return Fault{}, false
	}
	if f.fault.Skip > 0 {
		f.fault.Skip--
		return Fault{}, false
	}
	f.fault.Times--
	return f.fault, true
}

func (f Fault) status() *status.Status {
	failed := status.New(f.Code, "a fault of the double")
	if f.RetryMillis > 0 {
		pause := durationpb.New(time.Duration(f.RetryMillis) * time.Millisecond)
		if detailed, err := failed.WithDetails(&errdetails.RetryInfo{RetryDelay: pause}); err == nil {
			return detailed
		}
	}
	return failed
}

func (f Fault) error() error {
	return f.status().Err()
}

// begin does what comes before a call; an error ends it.
func (f Fault) begin(ctx context.Context) error {
	switch f.When {
	case "before":
		return f.error()
	case "hang":
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	case "delay":
		time.Sleep(time.Duration(f.DelayMillis) * time.Millisecond)
	}
	return nil
}

func (f *Faults) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	fault, fails := f.take(ctx, info.FullMethod)
	handler = f.completed(handler)
	if !fails {
		return handler(ctx, request)
	}
	if err := fault.begin(ctx); err != nil {
		return nil, err
	}
	answer, err := handler(ctx, request)
	switch {
	case err != nil:
		return nil, err
	case fault.When == "after":
		return nil, fault.error()
	case fault.When == "reset":
		f.cutOff()
	}
	return answer, nil
}

// completed answers what Google's double leaves out: permissions, and the one instance that there is.
func (f *Faults) completed(handler grpc.UnaryHandler) grpc.UnaryHandler {
	return func(ctx context.Context, request any) (any, error) {
		switch request := request.(type) {
		case *adminpb.CreateTableRequest:
			f.mutex.Lock()
			f.splits = append(f.splits, [2]any{request.TableId, len(request.InitialSplits)})
			f.mutex.Unlock()
		case *iampb.TestIamPermissionsRequest:
			return &iampb.TestIamPermissionsResponse{Permissions: f.denied.Held(request.Permissions)}, nil
		case *adminpb.ListClustersRequest:
			if path.Base(request.Parent) != Instance {
				return nil, status.Errorf(codes.NotFound, "%s is not there", request.Parent)
			}
			if err := f.denied.Check("bigtable.clusters.list"); err != nil {
				return nil, err
			}
			project := path.Dir(path.Dir(request.Parent))
			cluster := &adminpb.Cluster{Name: request.Parent + "/clusters/one", Location: project + "/locations/" + Zone}
			return &adminpb.ListClustersResponse{Clusters: []*adminpb.Cluster{cluster}}, nil
		}
		return handler(ctx, request)
	}
}

func (f *Faults) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	fault, fails := f.take(stream.Context(), info.FullMethod)
	if !fails {
		return handler(server, stream)
	}
	if err := fault.begin(stream.Context()); err != nil {
		return err
	}
	err := handler(server, &faulty{ServerStream: stream, fault: fault})
	switch {
	case err != nil:
		return err
	case fault.When == "after":
		return fault.error()
	case fault.When == "reset":
		f.cutOff()
	}
	return nil
}

// faulty is a stream that loses what its fault says.
type faulty struct {
	grpc.ServerStream
	fault   Fault
	answers int
	// Entries of a request, by their place in what is done of it, and the number of all.
	places []int64
	all    int
}

func (f *faulty) RecvMsg(message any) error {
	if err := f.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	if request, is := message.(*bigtablepb.MutateRowsRequest); is && f.fault.When == "partly" {
		var kept []*bigtablepb.MutateRowsRequest_Entry
		for place, entry := range request.Entries {
			if place%2 == 0 {
				kept, f.places = append(kept, entry), append(f.places, int64(place))
			}
		}
		f.all, request.Entries = len(request.Entries), kept
	}
	return nil
}

func (f *faulty) SendMsg(message any) error {
	switch f.fault.When {
	case "after", "reset":
		return nil
	case "amid":
		if f.answers >= max(f.fault.Answers, 1) {
			return f.fault.error()
		}
		f.answers++
	case "partly":
		if answer, is := message.(*bigtablepb.MutateRowsResponse); is {
			for _, entry := range answer.Entries {
				entry.Index = f.places[entry.Index]
			}
			for place := 1; place < f.all; place += 2 {
				answer.Entries = append(answer.Entries, &bigtablepb.MutateRowsResponse_Entry{
					Index:  int64(place),
					Status: f.fault.status().Proto(),
				})
			}
		}
	}
	return f.ServerStream.SendMsg(message)
}

// ServeHTTP sets faults and tells of calls.
func (f *Faults) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	if request.URL.Path == permissions.Path {
		f.denied.ServeHTTP(writer, request)
		return
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	switch request.Method + " " + request.URL.Path {
	case "POST /faults":
		var fault Fault
		if err := json.NewDecoder(request.Body).Decode(&fault); err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		f.fault = fault
	case "DELETE /faults":
		f.fault = Fault{}
	case "GET /splits":
		_ = json.NewEncoder(writer).Encode(f.splits)
	case "GET /authorizations":
		_ = json.NewEncoder(writer).Encode(slices.Collect(maps.Keys(f.authorizations)))
	case "GET /calls":
		_ = json.NewEncoder(writer).Encode(f.calls)
	default:
		http.NotFound(writer, request)
	}
}
