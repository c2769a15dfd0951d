package logging

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"sawlog.test/doubles/internal/faults"
	"sawlog.test/doubles/internal/permissions"
	"sawlog.test/doubles/internal/rest"
)

// ControlPath is where tests set what no client can.
const ControlPath = "/_logging"

// REST answers the calls that Google's Rust client makes in JSON, as far as permissions are not taken away.
func REST(server *Server, plan *faults.Plan, denied *permissions.Denied) rest.Handler {
	return func(request *http.Request, name string, body []byte) (proto.Message, error) {
		ctx := request.Context()
		switch {
		case request.Method == http.MethodPost && name == "entries:write":
			if err := denied.Check("logging.logEntries.create"); err != nil {
				return nil, err
			}
			return call(plan, ctx, "WriteLogEntries", body, &loggingpb.WriteLogEntriesRequest{}, server.WriteLogEntries)
		case request.Method == http.MethodPost && name == "entries:list":
			if err := denied.Check("logging.logEntries.list"); err != nil {
				return nil, err
			}
			return call(plan, ctx, "ListLogEntries", body, &loggingpb.ListLogEntriesRequest{}, server.ListLogEntries)
		case request.Method == http.MethodGet && strings.HasSuffix(name, "/logs"):
			parent := &loggingpb.ListLogsRequest{Parent: strings.TrimSuffix(name, "/logs")}
			return call(plan, ctx, "ListLogs", nil, parent, server.ListLogs)
		}
		return nil, status.Errorf(codes.Unimplemented, "%s %s is no call of this double", request.Method, name)
	}
}

func call[Q, A proto.Message](plan *faults.Plan, ctx context.Context, name string, body []byte, request Q, do func(context.Context, Q) (A, error)) (proto.Message, error) {
	if err := rest.Unmarshal(body, request); err != nil {
		return nil, err
	}
	return faults.Do(plan, ctx, name, func() (proto.Message, error) { return do(ctx, request) })
}

// Control takes the wishes of tests: {"reads_per_minute": 60}, {"suppressed": 5, "reason": 1},
// {"list_delay_ms": 500}.
func Control(server *Server) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		var wish struct {
			ReadsPerMinute *int `json:"reads_per_minute"`
			ListDelayMs    *int `json:"list_delay_ms"`
			Suppressed     int32
			Reason         int32
		}
		if err := json.NewDecoder(request.Body).Decode(&wish); err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		if wish.ReadsPerMinute != nil {
			server.SetReadsPerMinute(*wish.ReadsPerMinute)
		}
		if wish.ListDelayMs != nil {
			server.SetListDelay(time.Duration(*wish.ListDelayMs) * time.Millisecond)
		}
		if wish.Suppressed > 0 {
			server.Suppress(loggingpb.TailLogEntriesResponse_SuppressionInfo_Reason(wish.Reason), wish.Suppressed)
		}
	})
}
