package storage

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fault is what becomes of the next calls of a kind. POST /control/faults adds one, DELETE removes all and lets go of
// calls that hang, GET /control/calls says how many calls of each kind there were.
type fault struct {
	Kind   string // put, part, complete, …; empty for all
	Key    string // a part of the key; empty for all
	Count  int    // how many calls
	Skip   int    // how many calls are let through before
	When   string // "before" the call is done (as if it never came), or "after"
	Action string // "status", "hang", "reset" (the connection), "truncate" (the answer), "corrupt" (the request, or the answer after), "delay"
	Status int    // for "status"
	Millis int    // for "delay"
}

type faults struct {
	mutex   sync.Mutex
	pending []*fault
	calls   map[string]int
	active  int
	most    int
	release chan struct{}
}

func newFaults() *faults { return &faults{calls: map[string]int{}, release: make(chan struct{})} }

func (faults *faults) control(writer http.ResponseWriter, request *http.Request) {
	faults.mutex.Lock()
	defer faults.mutex.Unlock()
	switch request.Method {
	case "POST":
		added := &fault{Count: 1, When: "before"}
		decoder := json.NewDecoder(request.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(added); err != nil {
			http.Error(writer, err.Error(), 400)
			return
		}
		faults.pending = append(faults.pending, added)
	case "DELETE":
		faults.pending, faults.calls, faults.most = nil, map[string]int{}, faults.active
		close(faults.release)
		faults.release = make(chan struct{})
	default:
		writer.Header().Set("content-type", "application/json")
		_ = json.NewEncoder(writer).Encode(map[string]any{"calls": faults.calls, "at_once": faults.most})
	}
}

// take counts a call and gives the fault that is due for it; nil for none.
func (faults *faults) take(kind, key string) (*fault, chan struct{}) {
	faults.mutex.Lock()
	defer faults.mutex.Unlock()
	faults.calls[kind]++
	faults.active++
	faults.most = max(faults.most, faults.active)
	for index, due := range faults.pending {
		if due.Kind != "" && due.Kind != kind || !strings.Contains(key, due.Key) {
			continue
		}
		if due.Skip > 0 {
			due.Skip--
			continue
		}
		if due.Count--; due.Count <= 0 {
			faults.pending = append(faults.pending[:index:index], faults.pending[index+1:]...)
		}
		return due, faults.release
	}
	return nil, nil
}

func (faults *faults) done() {
	faults.mutex.Lock()
	defer faults.mutex.Unlock()
	faults.active--
}

// around does a call with the fault that is due for it.
func (faults *faults) around(writer http.ResponseWriter, request *http.Request, parts []string, call http.HandlerFunc) {
	kind, key, isXML := classify(request, parts)
	due, release := faults.take(kind, key)
	defer faults.done()
	if due == nil {
		call(writer, request)
		return
	}
	if due.Action == "delay" {
		time.Sleep(time.Duration(due.Millis) * time.Millisecond)
		call(writer, request)
		return
	}
	if due.Action == "corrupt" && due.When == "before" {
		content, _ := io.ReadAll(request.Body)
		request.Body = io.NopCloser(bytes.NewReader(flipped(content)))
		call(writer, request)
		return
	}
	answer := httptest.NewRecorder()
	if due.When == "after" || due.Action == "truncate" {
		call(answer, request)
	}
	_, _ = io.Copy(io.Discard, request.Body)
	switch due.Action {
	case "status":
		failed := &Failure{due.Status, "InjectedFault", "injectedFault", "a test wanted this answer"}
		if isXML {
			writeXMLError(writer, failed)
		} else {
			writeJSONError(writer, failed)
		}
	case "truncate", "corrupt":
		for name, values := range answer.Header() {
			writer.Header()[name] = values
		}
		writer.Header().Set("content-length", strconv.Itoa(answer.Body.Len()))
		writer.WriteHeader(answer.Code)
		if due.Action == "corrupt" {
			_, _ = writer.Write(flipped(answer.Body.Bytes()))
			return
		}
		_, _ = writer.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
		_ = http.NewResponseController(writer).Flush()
		reset(writer)
	case "hang":
		select {
		case <-request.Context().Done():
		case <-release:
		}
		reset(writer)
	default:
		reset(writer)
	}
}

// flipped is content with one bit changed.
func flipped(content []byte) []byte {
	if len(content) > 0 {
		content[len(content)/2] ^= 1
	}
	return content
}

// reset ends the connection as a network does that lost it.
func reset(writer http.ResponseWriter) {
	connection, _, err := http.NewResponseController(writer).Hijack()
	if err != nil {
		return
	}
	if tcp, is := connection.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	connection.Close()
}

// classify names a call and its object.
func classify(request *http.Request, parts []string) (kind, key string, isXML bool) {
	query, method := request.URL.Query(), request.Method
	switch parts = append(parts, "", "", "", "", "", "", ""); {
	case parts[0] == "upload" && query.Get("uploadType") == "resumable" && method == "POST":
		return "initiate", query.Get("name"), false
	case parts[0] == "upload" && query.Has("upload_id"):
		return "part", "", false
	case parts[0] == "upload":
		return "put", query.Get("name"), false
	case parts[0] == "batch":
		return "batch", "", false
	case parts[0] == "storage" || parts[0] == "download":
		if parts[0] == "download" {
			parts = parts[1:]
		}
		return classifyJSON(method, parts[3:], query.Get("alt") == "media")
	case parts[1] == "":
		return "list", query.Get("prefix"), true
	case method == "POST" && query.Has("uploads"):
		return "initiate", parts[1], true
	case method == "POST":
		return "complete", parts[1], true
	case query.Has("uploadId") && method == "PUT":
		return "part", parts[1], true
	case query.Has("uploadId"):
		return "abort", parts[1], true
	case method == "PUT" && request.Header.Get("x-goog-copy-source") != "":
		return "copy", parts[1], true
	}
	return strings.ToLower(method), parts[1], true
}

// classifyJSON names a call by its path after the bucket collection.
func classifyJSON(method string, parts []string, isMedia bool) (kind, key string, isXML bool) {
	switch {
	case parts[1] != "o":
		return "bucket", "", false
	case parts[2] == "":
		return "list", "", false
	case parts[3] == "compose":
		return "compose", parts[2], false
	case parts[3] != "":
		return "copy", parts[2], false
	case method == "GET" && isMedia:
		return "get", parts[2], false
	case method == "GET":
		return "head", parts[2], false
	}
	return strings.ToLower(method), parts[2], false
}
