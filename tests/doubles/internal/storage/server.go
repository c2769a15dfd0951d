package storage

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"sawlog.test/doubles/internal/permissions"
)

// Server answers both interfaces and the control of faults.
type Server struct {
	store  *Store
	page   int
	faults *faults
	denied *permissions.Denied
	// What a test set of the bucket's settings, as JSON by the name of a field.
	mutex    sync.Mutex
	settings map[string]any
	ahead    time.Duration
}

// NewServer serves a store with at most `page` keys on one page of a list.
func NewServer(store *Store, page int) *Server {
	return &Server{store: store, page: page, faults: newFaults(), denied: &permissions.Denied{}}
}

// control takes the wishes of tests: faults, PUT /control/denied, PUT /control/bucket with fields of buckets in JSON, and
// PUT /control/clock with the seconds by which this clock is ahead.
func (server *Server) control(writer http.ResponseWriter, request *http.Request, what string) {
	var wish any
	switch what {
	case "denied":
		server.denied.ServeHTTP(writer, request)
		return
	case "bucket":
		wish = &map[string]any{}
	case "clock":
		wish = new(int64)
	default:
		server.faults.control(writer, request)
		return
	}
	if err := json.NewDecoder(request.Body).Decode(wish); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	server.mutex.Lock()
	defer server.mutex.Unlock()
	switch wish := wish.(type) {
	case *map[string]any:
		server.settings = *wish
	case *int64:
		server.ahead = time.Duration(*wish) * time.Second
	}
}

// bucketJSON is a bucket with the settings that a test has given.
func (server *Server) bucketJSON(bucket string) map[string]any {
	server.mutex.Lock()
	defer server.mutex.Unlock()
	found := bucketJSON(bucket)
	maps.Copy(found, server.settings)
	return found
}

func (server *Server) date() string {
	server.mutex.Lock()
	defer server.mutex.Unlock()
	return time.Now().Add(server.ahead).UTC().Format(http.TimeFormat)
}

func (server *Server) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	parts, err := split(request.URL.EscapedPath())
	if err != nil {
		writeXMLError(writer, err)
		return
	}
	if len(parts) > 0 && parts[0] == "control" {
		server.control(writer, request, strings.Join(parts[1:], "/"))
		return
	}
	writer.Header().Set("date", server.date())
	server.faults.around(writer, request, parts, func(writer http.ResponseWriter, request *http.Request) {
		server.answer(writer, request, parts)
	})
}

func (server *Server) answer(writer http.ResponseWriter, request *http.Request, parts []string) {
	var err error
	write := writeJSONError
	switch {
	case hasPrefix(parts, "batch"):
		err = server.batch(writer, request)
	case hasPrefix(parts, "upload", "storage", "v1", "b") && len(parts) == 6:
		err = server.upload(writer, request, parts[4])
	case hasPrefix(parts, "download", "storage", "v1", "b"):
		err = server.json(writer, request, parts[4:])
	case hasPrefix(parts, "storage", "v1", "b"):
		err = server.json(writer, request, parts[3:])
	default:
		write = writeXMLError
		err = server.xml(writer, request, parts)
	}
	if err != nil {
		_, _ = io.Copy(io.Discard, request.Body)
		write(writer, err)
	}
}

// split gives the decoded parts of a path. In the XML interface all after the bucket is one part, the key.
func split(path string) ([]string, error) {
	escaped := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch escaped[0] {
	case "batch", "control", "download", "storage", "upload":
	default:
		if len(escaped) > 2 {
			escaped = []string{escaped[0], strings.Join(escaped[1:], "/")}
		}
	}
	var parts []string
	for _, part := range escaped {
		text, err := unescape(part)
		if err != nil {
			return nil, err
		}
		if text != "" {
			parts = append(parts, text)
		}
	}
	return parts, nil
}

func hasPrefix(parts []string, prefix ...string) bool {
	if len(parts) < len(prefix) {
		return false
	}
	for index, part := range prefix {
		if parts[index] != part {
			return false
		}
	}
	return true
}

// failure is an error as an answer.
func failure(err error) *Failure {
	var known *Failure
	if errors.As(err, &known) {
		return known
	}
	log.Print(err)
	return &Failure{500, "InternalError", "backendError", err.Error()}
}

// checkHashes compares checksums that a writer gave, in the form of x-goog-hash or Content-MD5, with those of the content.
func checkHashes(headers http.Header, object *Object) error {
	var given []string
	for _, line := range headers.Values("x-goog-hash") {
		given = append(given, strings.Split(line, ",")...)
	}
	if sum := headers.Get("content-md5"); sum != "" {
		given = append(given, "md5="+sum)
	}
	for _, hash := range given {
		name, value, _ := strings.Cut(strings.TrimSpace(hash), "=")
		actual := map[string][]byte{"crc32c": bigEndian(object.CRC32C), "md5": object.MD5}[name]
		if actual != nil && base64.StdEncoding.EncodeToString(actual) != value {
			return &Failure{400, "BadDigest", "invalid", "The " + name + " you specified did not match what was received."}
		}
	}
	return nil
}

// number reads an optional number; nil if the text is empty.
func number(text string) (*int64, error) {
	if text == "" {
		return nil, nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, invalid("'" + text + "' is no number")
	}
	return &value, nil
}
