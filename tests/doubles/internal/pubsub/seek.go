package pubsub

import (
	"context"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A snapshot lives for so long at most.
const snapshotAge = 7 * 24 * time.Hour

type snapshot struct {
	spec *pubsubpb.Snapshot
	// What was not acknowledged when it was made; it keeps these, and what was published later.
	unacked map[*entry]bool
	made    time.Time
}

// CreateSnapshot notes what of a subscription is not acknowledged.
func (s *Server) CreateSnapshot(_ context.Context, request *pubsubpb.CreateSnapshotRequest) (*pubsubpb.Snapshot, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.subscriptions[request.Subscription]
	if found == nil {
		return nil, notFound(request.Subscription)
	}
	if s.snapshots[request.Name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Resource already exists in the project (resource=%s).", request.Name)
	}
	now := s.now()
	made := &snapshot{unacked: map[*entry]bool{}, made: now, spec: &pubsubpb.Snapshot{
		Name: request.Name, Topic: found.spec.Topic, Labels: request.Labels, ExpireTime: timestamppb.New(now.Add(snapshotAge)),
	}}
	for _, one := range found.log {
		if !one.acked {
			made.unacked[one] = true
		}
	}
	s.snapshots[request.Name] = made
	return made.spec, nil
}

// GetSnapshot tells of a snapshot.
func (s *Server) GetSnapshot(_ context.Context, request *pubsubpb.GetSnapshotRequest) (*pubsubpb.Snapshot, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if found := s.snapshots[request.Snapshot]; found != nil {
		return found.spec, nil
	}
	return nil, notFound(request.Snapshot)
}

// DeleteSnapshot deletes a snapshot.
func (s *Server) DeleteSnapshot(_ context.Context, request *pubsubpb.DeleteSnapshotRequest) (*emptypb.Empty, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.snapshots[request.Snapshot] == nil {
		return nil, notFound(request.Snapshot)
	}
	delete(s.snapshots, request.Snapshot)
	return &emptypb.Empty{}, nil
}

// Seek makes what was published since a time, or not acknowledged in a snapshot, undelivered again, and the rest acknowledged.
// Messages that were acknowledged come back to a time only where the subscription retains them.
func (s *Server) Seek(_ context.Context, request *pubsubpb.SeekRequest) (*pubsubpb.SeekResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.subscriptions[request.Subscription]
	if found == nil {
		return nil, notFound(request.Subscription)
	}
	var isWanted func(*entry) bool
	switch target := request.Target.(type) {
	case *pubsubpb.SeekRequest_Time:
		at := target.Time.AsTime()
		isWanted = func(one *entry) bool {
			return !one.message.PublishTime.AsTime().Before(at) && (!one.acked || found.spec.RetainAckedMessages)
		}
	case *pubsubpb.SeekRequest_Snapshot:
		kept := s.snapshots[target.Snapshot]
		if kept == nil {
			return nil, notFound(target.Snapshot)
		}
		if kept.spec.Topic != found.spec.Topic {
			return nil, status.Error(codes.InvalidArgument, "The snapshot is of another topic.")
		}
		isWanted = func(one *entry) bool { return kept.unacked[one] || one.message.PublishTime.AsTime().After(kept.made) }
	default:
		return nil, status.Error(codes.InvalidArgument, "Seek needs a time or a snapshot.")
	}
	found.ready, found.out = nil, map[string]*entry{}
	for _, one := range found.log {
		one.acked = !isWanted(one)
		one.out, one.ackID = false, ""
		if !one.acked {
			found.ready = append(found.ready, one)
		}
	}
	found.wake()
	return &pubsubpb.SeekResponse{}, nil
}
