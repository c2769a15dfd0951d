package logging

import (
	"io"
	"sort"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	windowDefault = 2 * time.Second
	windowMax     = time.Minute
	// A response of a tail has at most so many entries.
	tailedMax = 1_000
)

// TailLogEntries shows entries that are written while it runs, in the order of their times within its buffer window.
func (s *Server) TailLogEntries(stream loggingpb.LoggingServiceV2_TailLogEntriesServer) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	wanted, err := passes(request.ResourceNames, request.Filter)
	if err != nil {
		return err
	}
	window := windowDefault
	if request.BufferWindow != nil {
		window = request.BufferWindow.AsDuration()
	}
	if window < 0 || window > windowMax {
		return status.Error(codes.InvalidArgument, "The buffer window is 0 to 60 seconds.")
	}
	gone := make(chan error, 1)
	go func() {
		_, err := stream.Recv()
		gone <- err
	}()
	s.mutex.Lock()
	seen, told := len(s.entries), len(s.suppressed)
	changed := s.changed
	s.mutex.Unlock()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for {
		select {
		case <-changed:
		case err := <-gone:
			if err == io.EOF {
				return nil
			}
			return err
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		select {
		case <-time.After(window):
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		s.mutex.Lock()
		var found []*entry
		for _, one := range s.entries[seen:] {
			if wanted(one.fields) {
				found = append(found, one)
			}
		}
		suppressed := s.suppressed[told:]
		seen, told = len(s.entries), len(s.suppressed)
		changed = s.changed
		s.mutex.Unlock()
		sort.SliceStable(found, func(a, b int) bool { return position(found[a], "").before(found[b], false) })
		for len(found) > 0 || len(suppressed) > 0 {
			answer := &loggingpb.TailLogEntriesResponse{SuppressionInfo: suppressed}
			some := found[:min(len(found), tailedMax)]
			for _, one := range some {
				answer.Entries = append(answer.Entries, one.message)
			}
			if err := stream.Send(answer); err != nil {
				return err
			}
			found, suppressed = found[len(some):], nil
		}
	}
}
