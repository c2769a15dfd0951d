// Package faults lets tests make a double misbehave: it answers with errors, late, or not at all, as often as a test asks.
//
// Tests POST a Fault as JSON to Path, DELETE it to forget all faults, and GET it for the number of calls of each kind.
package faults

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Path is where faults are asked for.
const Path = "/_faults"

// ErrReset asks who serves HTTP to cut the connection instead of answering.
var ErrReset = errors.New("the connection is reset")

// Fault is what is to go wrong.
type Fault struct {
	// Call is the name of the method, such as ListLogEntries.
	Call string `json:"call"`
	// Count is how many calls it meets.
	Count int `json:"count"`
	// Skip is how many calls go well before.
	Skip int `json:"skip"`
	// After says that the call is done first. A stream goes wrong after a message.
	After bool `json:"after"`
	// Status is the code to answer with, such as UNAVAILABLE.
	Status string `json:"status"`
	// DelayMillis is how long to wait first.
	DelayMillis int `json:"delay_ms"`
	// Hang says not to answer at all until the client goes.
	Hang bool `json:"hang"`
	// Reset says to cut the connection.
	Reset bool `json:"reset"`
}

// Plan holds the faults that are still to come. Its zero value has none.
type Plan struct {
	mutex  sync.Mutex
	faults []*Fault
	calls  map[string]int
}

// next is the fault that meets a call now, if any.
func (p *Plan) next(call string, after bool) *Fault {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, fault := range p.faults {
		if fault.Call != call || fault.After != after || fault.Count == 0 {
			continue
		}
		if fault.Skip > 0 {
			fault.Skip--
			continue
		}
		fault.Count--
		return fault
	}
	return nil
}

func (p *Plan) count(call string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.calls == nil {
		p.calls = map[string]int{}
	}
	p.calls[call]++
}

func (f *Fault) happen(ctx context.Context) error {
	if f == nil {
		return nil
	}
	select {
	case <-time.After(time.Duration(f.DelayMillis) * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case f.Hang:
		<-ctx.Done()
		return ctx.Err()
	case f.Reset:
		return ErrReset
	case f.Status != "":
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(`"` + f.Status + `"`)); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		return status.Errorf(code, "a test asked %s to fail", f.Call)
	}
	return nil
}

// Do makes a call between the faults that are planned before and after it.
func Do[T any](p *Plan, ctx context.Context, call string, do func() (T, error)) (T, error) {
	p.count(call)
	var none T
	if err := p.next(call, false).happen(ctx); err != nil {
		return none, err
	}
	answer, err := do()
	if err != nil {
		return none, err
	}
	if err := p.next(call, true).happen(ctx); err != nil {
		return none, err
	}
	return answer, nil
}

// Unary puts the faults around the unary calls of a gRPC server, where a reset is an answer that never comes.
func (p *Plan) Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	answer, err := Do(p, ctx, path.Base(info.FullMethod), func() (any, error) { return handler(ctx, request) })
	return answer, ofGrpc(err)
}

// Stream puts the faults around the streams of a gRPC server.
func (p *Plan) Stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	call := path.Base(info.FullMethod)
	p.count(call)
	if err := p.next(call, false).happen(stream.Context()); err != nil {
		return ofGrpc(err)
	}
	return handler(server, &faultyStream{ServerStream: stream, plan: p, call: call})
}

func ofGrpc(err error) error {
	if errors.Is(err, ErrReset) {
		return status.Error(codes.Unavailable, err.Error())
	}
	return err
}

type faultyStream struct {
	grpc.ServerStream
	plan *Plan
	call string
}

func (s *faultyStream) SendMsg(message any) error {
	if err := s.ServerStream.SendMsg(message); err != nil {
		return err
	}
	return ofGrpc(s.plan.next(s.call, true).happen(s.Context()))
}

// ServeHTTP takes the wishes of tests.
func (p *Plan) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	switch request.Method {
	case http.MethodPost:
		fault := &Fault{Count: 1}
		decoder := json.NewDecoder(request.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(fault); err != nil || strings.TrimSpace(fault.Call) == "" {
			http.Error(writer, "a fault names a call", http.StatusBadRequest)
			return
		}
		p.faults = append(p.faults, fault)
	case http.MethodDelete:
		p.faults = nil
	case http.MethodGet:
		writer.Header().Set("content-type", "application/json")
		_ = json.NewEncoder(writer).Encode(p.calls)
	default:
		http.Error(writer, "POST, DELETE or GET", http.StatusMethodNotAllowed)
	}
}
