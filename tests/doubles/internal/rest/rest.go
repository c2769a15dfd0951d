// Package rest answers Google's HTTP/JSON form of unary calls beside gRPC on one port.
//
// Google's Rust clients make their administrative calls in JSON and stream over gRPC, at one endpoint.
package rest

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"sawlog.test/doubles/internal/faults"
)

// Handler answers one JSON call: the verb, the resource name after the version, and the body.
type Handler func(request *http.Request, name string, body []byte) (proto.Message, error)

var names = map[codes.Code]struct {
	http int
	name string
}{
	codes.InvalidArgument:    {400, "INVALID_ARGUMENT"},
	codes.FailedPrecondition: {400, "FAILED_PRECONDITION"},
	codes.Unauthenticated:    {401, "UNAUTHENTICATED"},
	codes.PermissionDenied:   {403, "PERMISSION_DENIED"},
	codes.NotFound:           {404, "NOT_FOUND"},
	codes.AlreadyExists:      {409, "ALREADY_EXISTS"},
	codes.ResourceExhausted:  {429, "RESOURCE_EXHAUSTED"},
	codes.Unimplemented:      {501, "UNIMPLEMENTED"},
	codes.Unavailable:        {503, "UNAVAILABLE"},
	codes.DeadlineExceeded:   {504, "DEADLINE_EXCEEDED"},
	codes.Aborted:            {409, "ABORTED"},
	codes.Internal:           {500, "INTERNAL"},
}

// Unmarshal reads a JSON body into a message; an empty body is an empty message.
func Unmarshal(body []byte, message proto.Message) error {
	if len(body) == 0 {
		return nil
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, message); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// versions is what may stand before the name of a resource.
var versions = []string{"/v1/", "/v2/", "/v3/"}

// Serve serves gRPC and JSON on one listener until it fails; and what tests ask of the double, by its path.
func Serve(listener net.Listener, server *grpc.Server, handler Handler, controls map[string]http.Handler) error {
	routes := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.ProtoMajor == 2 && strings.HasPrefix(request.Header.Get("content-type"), "application/grpc") {
			server.ServeHTTP(writer, request)
			return
		}
		if control := controls[request.URL.Path]; control != nil {
			control.ServeHTTP(writer, request)
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return // the client has gone
		}
		name := request.URL.Path
		for _, version := range versions {
			name = strings.TrimPrefix(name, version)
		}
		message, err := handler(request, name, body)
		if errors.Is(err, faults.ErrReset) {
			panic(http.ErrAbortHandler) // cuts the connection
		}
		Reply(writer, message, err, protojson.MarshalOptions{UseEnumNumbers: true})
	})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return (&http.Server{Handler: routes, Protocols: protocols}).Serve(listener)
}

// Reply writes an answer, or an error as Google's services write it.
func Reply(writer http.ResponseWriter, message proto.Message, err error, form protojson.MarshalOptions) {
	writer.Header().Set("content-type", "application/json")
	if err != nil {
		writeError(writer, err)
		return
	}
	answer, err := form.Marshal(message)
	if err != nil {
		writeError(writer, err)
		return
	}
	_, _ = writer.Write(answer)
}

func writeError(writer http.ResponseWriter, err error) {
	found, known := names[status.Code(err)]
	if !known {
		found.http, found.name = 500, "INTERNAL"
	}
	details := []json.RawMessage{}
	for _, detail := range status.Convert(err).Proto().GetDetails() {
		if text, err := protojson.Marshal(detail); err == nil {
			details = append(details, text)
		}
	}
	writer.WriteHeader(found.http)
	_ = json.NewEncoder(writer).Encode(map[string]any{"error": map[string]any{
		"code": found.http, "message": status.Convert(err).Message(), "status": found.name, "details": details,
	}})
}
