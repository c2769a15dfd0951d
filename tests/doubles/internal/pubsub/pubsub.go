// Package pubsub is an in-memory double of Cloud Pub/Sub for volume: messages of up to 10 MB, tens of thousands a second.
//
// It has what a subscriber and a publisher can see: leases that run out, delivery attempts, flow control, dead-letter topics,
// ordering keys, exactly-once delivery, seek to times and snapshots, pushes with identity tokens. It has no schemas, filters, or
// access control.
package pubsub

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	messageBytesMax = 10 << 20
	// A response of a stream holds at most so many messages and bytes.
	batchMessages = 1_000
	batchBytes    = 4 << 20
	// How often leases are looked at.
	tick = 50 * time.Millisecond
)

// Server is the double.
type Server struct {
	pubsubpb.UnimplementedPublisherServer
	pubsubpb.UnimplementedSubscriberServer

	mutex         sync.Mutex
	topics        map[string]*pubsubpb.Topic
	subscriptions map[string]*subscription
	snapshots     map[string]*snapshot
	nextID        uint64
	now           func() time.Time
	// Signs what pushes carry.
	Tokens *Tokens
}

type entry struct {
	message  *pubsubpb.PubsubMessage
	attempts int32
	acked    bool
	// While it is out: until when, and under which id. Out is false when it may be delivered.
	out      bool
	deadline time.Time
	ackID    string
}

type subscription struct {
	spec *pubsubpb.Subscription
	// All messages since its creation, for seek.
	log []*entry
	// Those that are not acknowledged and not out, oldest first.
	ready []*entry
	// Those that are out, by the id to acknowledge them with.
	out map[string]*entry
	// Closed and made anew when something may be delivered.
	changed chan struct{}
}

// New makes a double without topics.
func New() *Server {
	server := &Server{
		topics:        map[string]*pubsubpb.Topic{},
		subscriptions: map[string]*subscription{},
		snapshots:     map[string]*snapshot{},
		Tokens:        newTokens(),
		// Ids are unique for ever, also after this process was started again.
		nextID: uint64(time.Now().UnixNano()),
		now:    time.Now,
	}
	go func() {
		for range time.Tick(tick) {
			server.expire()
		}
	}()
	return server
}

func notFound(name string) error {
	return status.Errorf(codes.NotFound, "Resource not found (resource=%s).", name)
}

// CreateTopic makes a topic.
func (s *Server) CreateTopic(_ context.Context, topic *pubsubpb.Topic) (*pubsubpb.Topic, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.topics[topic.Name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Resource already exists in the project (resource=%s).", topic.Name)
	}
	s.topics[topic.Name] = topic
	return topic, nil
}

// GetTopic tells of a topic.
func (s *Server) GetTopic(_ context.Context, request *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if topic := s.topics[request.Topic]; topic != nil {
		return topic, nil
	}
	return nil, notFound(request.Topic)
}

// DeleteTopic deletes a topic; its subscriptions stay.
func (s *Server) DeleteTopic(_ context.Context, request *pubsubpb.DeleteTopicRequest) (*emptypb.Empty, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.topics[request.Topic] == nil {
		return nil, notFound(request.Topic)
	}
	delete(s.topics, request.Topic)
	return &emptypb.Empty{}, nil
}

// Publish gives messages to all subscriptions of a topic.
func (s *Server) Publish(_ context.Context, request *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.topics[request.Topic] == nil {
		return nil, notFound(request.Topic)
	}
	for _, message := range request.Messages {
		if len(message.Data) == 0 && len(message.Attributes) == 0 {
			return nil, status.Error(codes.InvalidArgument, "A message needs data or attributes.")
		}
		if proto.Size(message) > messageBytesMax {
			return nil, status.Error(codes.InvalidArgument, "The message is larger than 10 MB.")
		}
	}
	response := &pubsubpb.PublishResponse{}
	for _, message := range request.Messages {
		response.MessageIds = append(response.MessageIds, s.deliver(request.Topic, message))
	}
	return response, nil
}

func (s *Server) deliver(topic string, message *pubsubpb.PubsubMessage) string {
	s.nextID++
	message.MessageId = strconv.FormatUint(s.nextID, 10)
	message.PublishTime = timestamppb.New(s.now())
	for _, subscription := range s.subscriptions {
		if subscription.spec.Topic == topic {
			one := &entry{message: message}
			subscription.log = append(subscription.log, one)
			subscription.ready = append(subscription.ready, one)
			subscription.wake()
		}
	}
	return message.MessageId
}

func (s *subscription) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// CreateSubscription makes a subscription, which gets what is published from now on.
func (s *Server) CreateSubscription(_ context.Context, spec *pubsubpb.Subscription) (*pubsubpb.Subscription, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.subscriptions[spec.Name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Resource already exists in the project (resource=%s).", spec.Name)
	}
	if s.topics[spec.Topic] == nil {
		return nil, notFound(spec.Topic)
	}
	if spec.AckDeadlineSeconds == 0 {
		spec.AckDeadlineSeconds = 10
	}
	if spec.MessageRetentionDuration == nil {
		spec.MessageRetentionDuration = durationpb.New(7 * 24 * time.Hour)
	}
	made := &subscription{spec: spec, out: map[string]*entry{}, changed: make(chan struct{})}
	s.subscriptions[spec.Name] = made
	if spec.PushConfig.GetPushEndpoint() != "" {
		go s.push(spec.Name, made)
	}
	return spec, nil
}

// GetSubscription tells of a subscription.
func (s *Server) GetSubscription(_ context.Context, request *pubsubpb.GetSubscriptionRequest) (*pubsubpb.Subscription, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if found := s.subscriptions[request.Subscription]; found != nil {
		return found.spec, nil
	}
	return nil, notFound(request.Subscription)
}

// DeleteSubscription deletes a subscription and its messages.
func (s *Server) DeleteSubscription(_ context.Context, request *pubsubpb.DeleteSubscriptionRequest) (*emptypb.Empty, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.subscriptions[request.Subscription]
	if found == nil {
		return nil, notFound(request.Subscription)
	}
	delete(s.subscriptions, request.Subscription)
	found.wake()
	return &emptypb.Empty{}, nil
}

// take hands out messages up to the limits. The caller holds the lock.
func (s *Server) take(found *subscription, messages int, bytes int64, deadline time.Duration) []*pubsubpb.ReceivedMessage {
	var taken []*pubsubpb.ReceivedMessage
	var kept []*entry
	// A key of which a message is out waits for it.
	held := map[string]bool{}
	if found.spec.EnableMessageOrdering {
		for _, one := range found.out {
			held[one.message.OrderingKey] = true
		}
	}
	policy := found.spec.DeadLetterPolicy
	for at, one := range found.ready {
		if len(taken) >= messages || bytes <= 0 {
			kept = append(kept, found.ready[at:]...)
			break
		}
		key := one.message.OrderingKey
		if key != "" && held[key] {
			kept = append(kept, one)
			continue
		}
		if policy != nil && policy.DeadLetterTopic != "" && one.attempts >= max(policy.MaxDeliveryAttempts, 5) {
			one.acked = true
			dead := proto.Clone(one.message).(*pubsubpb.PubsubMessage)
			s.deliver(policy.DeadLetterTopic, dead)
			continue
		}
		one.attempts++
		one.out, one.deadline = true, s.now().Add(deadline)
		one.ackID = fmt.Sprintf("%s/%d", one.message.MessageId, one.attempts)
		found.out[one.ackID] = one
		received := &pubsubpb.ReceivedMessage{AckId: one.ackID, Message: one.message}
		if policy != nil {
			received.DeliveryAttempt = one.attempts
		}
		taken = append(taken, received)
		bytes -= int64(len(one.message.Data))
	}
	found.ready = kept
	return taken
}

// back makes messages deliverable again. The caller holds the lock.
func (found *subscription) back(entries []*entry) {
	if len(entries) == 0 {
		return
	}
	for _, one := range entries {
		delete(found.out, one.ackID)
		one.out, one.ackID = false, ""
	}
	found.ready = append(found.ready, entries...)
	sort.SliceStable(found.ready, func(a, b int) bool { return id(found.ready[a]) < id(found.ready[b]) })
	found.wake()
}

func id(one *entry) uint64 {
	number, _ := strconv.ParseUint(one.message.MessageId, 10, 64)
	return number
}

// expire takes back what was not acknowledged in time.
func (s *Server) expire() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now := s.now()
	for _, found := range s.subscriptions {
		var late []*entry
		for _, one := range found.out {
			if one.deadline.Before(now) {
				late = append(late, one)
			}
		}
		found.back(late)
	}
}

// Expire ends all leases at once, as if their holders had been silent for too long.
func (s *Server) Expire(http.ResponseWriter, *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, found := range s.subscriptions {
		found.back(slices.Collect(maps.Values(found.out)))
	}
}

func (s *Server) acknowledge(name string, ackIDs []string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.subscriptions[name]
	if found == nil {
		return notFound(name)
	}
	var invalid []string
	for _, ackID := range ackIDs {
		one := found.out[ackID]
		if one == nil {
			invalid = append(invalid, ackID)
			continue
		}
		one.acked, one.out = true, false
		delete(found.out, ackID)
	}
	// An acknowledgement makes room for further messages of its key, and under flow control.
	found.wake()
	return found.refusal(invalid)
}

// refusal is what a subscription with exactly-once delivery says of ids whose lease has run out; others forgive them.
func (found *subscription) refusal(invalid []string) error {
	if len(invalid) == 0 || !found.spec.EnableExactlyOnceDelivery {
		return nil
	}
	info := &errdetails.ErrorInfo{
		Reason: "EXACTLY_ONCE_ACKID_FAILURE", Domain: "pubsub.googleapis.com", Metadata: map[string]string{},
	}
	for _, ackID := range invalid {
		info.Metadata[ackID] = "PERMANENT_FAILURE_INVALID_ACK_ID"
	}
	refused := status.New(codes.FailedPrecondition, "Some acknowledgement ids in the request were invalid.")
	if detailed, err := refused.WithDetails(info); err == nil {
		refused = detailed
	}
	return refused.Err()
}

func (s *Server) modify(name string, ackIDs []string, seconds int32) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.subscriptions[name]
	if found == nil {
		return notFound(name)
	}
	var refused []*entry
	var invalid []string
	for _, ackID := range ackIDs {
		one := found.out[ackID]
		switch {
		case one == nil:
			invalid = append(invalid, ackID)
		case seconds == 0:
			refused = append(refused, one)
		default:
			one.deadline = s.now().Add(time.Duration(seconds) * time.Second)
		}
	}
	found.back(refused)
	return found.refusal(invalid)
}

// Acknowledge ends the delivery of messages.
func (s *Server) Acknowledge(_ context.Context, request *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.acknowledge(request.Subscription, request.AckIds)
}

// ModifyAckDeadline extends leases, or gives messages back.
func (s *Server) ModifyAckDeadline(_ context.Context, request *pubsubpb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.modify(request.Subscription, request.AckIds, request.AckDeadlineSeconds)
}

// Pull hands out what there is.
func (s *Server) Pull(_ context.Context, request *pubsubpb.PullRequest) (*pubsubpb.PullResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.subscriptions[request.Subscription]
	if found == nil {
		return nil, notFound(request.Subscription)
	}
	deadline := time.Duration(found.spec.AckDeadlineSeconds) * time.Second
	taken := s.take(found, min(int(request.MaxMessages), batchMessages), batchBytes, deadline)
	return &pubsubpb.PullResponse{ReceivedMessages: taken}, nil
}

// StreamingPull hands out messages as they come, as far as the flow control of the stream allows.
func (s *Server) StreamingPull(stream pubsubpb.Subscriber_StreamingPullServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	name := first.Subscription
	seconds := first.StreamAckDeadlineSeconds
	if seconds < 10 || seconds > 600 {
		return status.Error(codes.InvalidArgument, "The deadline of a stream is 10 to 600 seconds.")
	}
	failed := make(chan error, 1)
	confirmations := make(chan *pubsubpb.StreamingPullResponse_AcknowledgeConfirmation, 16)
	go func() {
		for {
			request, err := stream.Recv()
			if err == io.EOF {
				failed <- nil
				return
			}
			if err == nil && len(request.AckIds) > 0 {
				err = s.confirm(name, request.AckIds, confirmations)
			}
			for at, ackID := range request.GetModifyDeadlineAckIds() {
				if err == nil {
					err = s.modify(name, []string{ackID}, request.ModifyDeadlineSeconds[at])
				}
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	mine := map[string]int64{}
	for {
		s.mutex.Lock()
		found := s.subscriptions[name]
		if found == nil {
			s.mutex.Unlock()
			return notFound(name)
		}
		changed := found.changed
		properties := &pubsubpb.StreamingPullResponse_SubscriptionProperties{
			ExactlyOnceDeliveryEnabled: found.spec.EnableExactlyOnceDelivery, MessageOrderingEnabled: found.spec.EnableMessageOrdering,
		}
		var outstanding int64
		for ackID, size := range mine {
			if found.out[ackID] == nil {
				delete(mine, ackID)
			} else {
				outstanding += size
			}
		}
		messages, bytes := batchMessages, int64(batchBytes)
		if first.MaxOutstandingMessages > 0 {
			messages = min(messages, int(first.MaxOutstandingMessages)-len(mine))
		}
		if first.MaxOutstandingBytes > 0 {
			bytes = min(bytes, first.MaxOutstandingBytes-outstanding)
		}
		taken := s.take(found, messages, bytes, time.Duration(seconds)*time.Second)
		for _, one := range taken {
			mine[one.AckId] = int64(len(one.Message.Data))
		}
		s.mutex.Unlock()
		if len(taken) > 0 {
			response := &pubsubpb.StreamingPullResponse{ReceivedMessages: taken, SubscriptionProperties: properties}
			if err := stream.Send(response); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case confirmed := <-confirmations:
			response := &pubsubpb.StreamingPullResponse{AcknowledgeConfirmation: confirmed, SubscriptionProperties: properties}
			if err := stream.Send(response); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// confirm acknowledges by a stream. With exactly-once delivery it says which ids counted.
func (s *Server) confirm(
	name string, ackIDs []string, confirmations chan<- *pubsubpb.StreamingPullResponse_AcknowledgeConfirmation,
) error {
	confirmed := &pubsubpb.StreamingPullResponse_AcknowledgeConfirmation{}
	s.mutex.Lock()
	found := s.subscriptions[name]
	for _, ackID := range ackIDs {
		if found != nil && found.out[ackID] != nil {
			confirmed.AckIds = append(confirmed.AckIds, ackID)
		} else {
			confirmed.InvalidAckIds = append(confirmed.InvalidAckIds, ackID)
		}
	}
	s.mutex.Unlock()
	err := s.acknowledge(name, ackIDs)
	if found == nil || !found.spec.EnableExactlyOnceDelivery {
		return err
	}
	confirmations <- confirmed
	return nil
}

// Kind tells topics and subscriptions apart by their names.
func Kind(name string) string {
	if parts := strings.Split(name, "/"); len(parts) == 4 {
		return parts[2]
	}
	return ""
}
