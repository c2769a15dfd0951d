package storage

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// xml answers the XML interface, as far as clients use it that go through https://HOST/BUCKET/KEY.
func (server *Server) xml(writer http.ResponseWriter, request *http.Request, parts []string) error {
	query := request.URL.Query()
	if len(parts) == 1 && request.Method == "GET" {
		return server.listXML(writer, request, parts[0])
	}
	if len(parts) != 2 {
		return &Failure{501, "NotImplemented", "", request.Method + " " + request.URL.Path + " is no call of this double"}
	}
	bucket, key := parts[0], parts[1]
	switch method := request.Method; {
	case method == "GET" || method == "HEAD":
		return server.getXML(writer, request, bucket, key)
	case method == "POST" && query.Has("uploads"):
		return server.initiate(writer, request, bucket, key)
	case method == "POST" && query.Has("uploadId"):
		return server.complete(writer, request, bucket, key)
	case method == "PUT" && query.Has("uploadId"):
		return server.putPart(writer, request, bucket, key)
	case method == "DELETE" && query.Has("uploadId"):
		return server.abort(writer, request, bucket, key)
	case method == "PUT" && request.Header.Get("x-goog-copy-source") != "":
		return server.copyXML(writer, request, bucket, key)
	case method == "PUT":
		return server.putXML(writer, request, bucket, key)
	case method == "DELETE":
		conditions, err := conditionsOfHeaders(request.Header)
		if err != nil {
			return err
		}
		if err := server.store.Delete(bucket, key, conditions); err != nil {
			return err
		}
		writer.WriteHeader(204)
		return nil
	}
	return &Failure{501, "NotImplemented", "", request.Method + " " + request.URL.Path + " is no call of this double"}
}

func (server *Server) putXML(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	conditions, err := conditionsOfHeaders(request.Header)
	if err != nil {
		return err
	}
	staged, err := server.store.Stage(request.Body)
	if err != nil {
		return err
	}
	if err := checkHashes(request.Header, &staged.Object); err != nil {
		staged.Drop()
		return err
	}
	object, err := server.store.Put(bucket, key, staged, settingsOfHeaders(request.Header), conditions)
	if err != nil {
		return err
	}
	object.headers(writer.Header())
	writer.Header().Set("content-length", "0")
	return nil
}

func (server *Server) copyXML(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	conditions, err := conditionsOfHeaders(request.Header)
	if err != nil {
		return err
	}
	source, err := split(request.Header.Get("x-goog-copy-source"))
	if err != nil || len(source) != 2 {
		return invalid("x-goog-copy-source is BUCKET/KEY")
	}
	var replaced *Settings
	if request.Header.Get("x-goog-metadata-directive") == "REPLACE" {
		settings := settingsOfHeaders(request.Header)
		replaced = &settings
	}
	object, err := server.store.Copy(source[0], source[1], Conditions{}, bucket, key, replaced, conditions)
	if err != nil {
		return err
	}
	object.headers(writer.Header())
	return writeXML(writer, struct {
		XMLName      xml.Name `xml:"CopyObjectResult"`
		ETag         string
		LastModified string
	}{ETag: object.etagXML(), LastModified: timeText(object.Updated)})
}

// Copy makes an object of another one's content, with its settings unless others are given.
func (store *Store) Copy(
	fromBucket, fromKey string, fromConditions Conditions, bucket, key string, settings *Settings, conditions Conditions,
) (*Object, error) {
	from, file, err := store.Get(fromBucket, fromKey, fromConditions)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	staged, err := store.Stage(file)
	if err != nil {
		return nil, err
	}
	if from.MD5 == nil {
		staged.MD5 = nil
	}
	staged.Components = from.Components
	if settings == nil {
		settings = &from.Settings
	}
	return store.Put(bucket, key, staged, *settings, conditions)
}

func (server *Server) getXML(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	conditions, err := conditionsOfHeaders(request.Header)
	if err != nil {
		return err
	}
	if conditions.Generation == nil {
		if conditions.Generation, err = number(request.URL.Query().Get("generation")); err != nil {
			return err
		}
	}
	object, file, err := server.store.Get(bucket, key, conditions)
	if err != nil {
		return err
	}
	defer file.Close()
	object.headers(writer.Header())
	serve(writer, request, object, file)
	return nil
}

// serve answers with the content, or a range of it.
func serve(writer http.ResponseWriter, request *http.Request, object *Object, file *os.File) {
	contentType := object.ContentType
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	writer.Header().Set("content-type", contentType)
	if object.CacheControl != "" {
		writer.Header().Set("cache-control", object.CacheControl)
	}
	http.ServeContent(writer, request, "", object.Updated, file)
}

func (server *Server) listXML(writer http.ResponseWriter, request *http.Request, bucket string) error {
	query := request.URL.Query()
	if query.Get("list-type") != "2" {
		return &Failure{501, "NotImplemented", "", "this double lists with list-type=2 only"}
	}
	most, err := number(query.Get("max-keys"))
	if err != nil {
		return err
	}
	after, err := tokenKey(query.Get("continuation-token"))
	if err != nil {
		return err
	}
	page, err := server.store.List(bucket, Query{
		Prefix:    query.Get("prefix"),
		Delimiter: query.Get("delimiter"),
		After:     max(after, query.Get("start-after")),
		Max:       server.pageSize(most),
	})
	if err != nil {
		return err
	}
	answer := listResult{
		Name: bucket, Prefix: query.Get("prefix"), KeyCount: len(page.Objects) + len(page.Prefixes),
		IsTruncated: page.Next != "", NextContinuationToken: token(page.Next),
	}
	for _, object := range page.Objects {
		answer.Contents = append(answer.Contents, listed{
			object.Key, object.Generation, timeText(object.Updated), object.etagXML(), object.Size,
		})
	}
	for _, prefix := range page.Prefixes {
		answer.CommonPrefixes = append(answer.CommonPrefixes, struct{ Prefix string }{prefix})
	}
	return writeXML(writer, answer)
}

type listResult struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	KeyCount              int
	IsTruncated           bool
	NextContinuationToken string   `xml:",omitempty"`
	Contents              []listed `xml:",omitempty"`
	CommonPrefixes        []struct{ Prefix string }
}

type listed struct {
	Key          string
	Generation   int64
	LastModified string
	ETag         string
	Size         int64
}

// pageSize is how many keys a page has when a client wants at most so many.
func (server *Server) pageSize(most *int64) int {
	if most != nil && *most > 0 {
		return min(int(*most), server.page)
	}
	return server.page
}

// token hides the key at which a page ends, so that nobody takes it for one.
func token(key string) string { return base64.URLEncoding.EncodeToString([]byte(key)) }

func tokenKey(token string) (string, error) {
	key, err := base64.URLEncoding.DecodeString(token)
	if err != nil {
		return "", invalid("the page token is not one of this service")
	}
	return string(key), nil
}

func conditionsOfHeaders(headers http.Header) (conditions Conditions, err error) {
	if conditions.Generation, err = number(headers.Get("x-goog-if-generation-match")); err != nil {
		return conditions, err
	}
	conditions.Metageneration, err = number(headers.Get("x-goog-if-metageneration-match"))
	return conditions, err
}

const metadataPrefix = "X-Goog-Meta-"

func settingsOfHeaders(headers http.Header) Settings {
	metadata := map[string]string{}
	for name, values := range headers {
		if key, is := strings.CutPrefix(name, metadataPrefix); is {
			metadata[strings.ToLower(key)] = strings.Join(values, ",")
		}
	}
	return Settings{
		ContentType:        headers.Get("content-type"),
		ContentEncoding:    headers.Get("content-encoding"),
		ContentDisposition: headers.Get("content-disposition"),
		ContentLanguage:    headers.Get("content-language"),
		CacheControl:       headers.Get("cache-control"),
		Metadata:           metadata,
	}
}

// headers writes what the service says of an object with every answer about it.
func (object *Object) headers(headers http.Header) {
	headers.Set("etag", object.etagXML())
	headers.Set("last-modified", object.Updated.UTC().Format(http.TimeFormat))
	headers.Set("x-goog-generation", strconv.FormatInt(object.Generation, 10))
	headers.Set("x-goog-metageneration", strconv.FormatInt(object.Metageneration, 10))
	headers.Set("x-goog-stored-content-length", strconv.FormatInt(object.Size, 10))
	headers.Set("x-goog-stored-content-encoding", "identity")
	headers.Set("x-goog-storage-class", "STANDARD")
	headers.Add("x-goog-hash", "crc32c="+base64.StdEncoding.EncodeToString(bigEndian(object.CRC32C)))
	if object.MD5 != nil {
		headers.Add("x-goog-hash", "md5="+base64.StdEncoding.EncodeToString(object.MD5))
	}
	if object.Components > 0 {
		headers.Set("x-goog-component-count", strconv.Itoa(object.Components))
	}
	for key, value := range object.Metadata {
		headers.Set(metadataPrefix+key, value)
	}
	for name, value := range map[string]string{
		"content-encoding": object.ContentEncoding, "content-disposition": object.ContentDisposition,
		"content-language": object.ContentLanguage,
	} {
		if value != "" {
			headers.Set(name, value)
		}
	}
}

// etagXML is the MD5 where there is one, as the service does it.
func (object *Object) etagXML() string {
	if object.MD5 != nil {
		return fmt.Sprintf("\"%x\"", object.MD5)
	}
	return fmt.Sprintf("\"%x-%d\"", object.Generation, object.Components)
}

func timeText(time time.Time) string { return time.UTC().Format("2006-01-02T15:04:05.000Z") }

func writeXML(writer http.ResponseWriter, answer any) error {
	text, err := xml.Marshal(answer)
	if err != nil {
		return err
	}
	writer.Header().Set("content-type", "application/xml; charset=UTF-8")
	_, err = io.WriteString(writer, xml.Header+string(text))
	return err
}

func writeXMLError(writer http.ResponseWriter, err error) {
	failure := failure(err)
	text, _ := xml.Marshal(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: failure.Code, Message: failure.Message})
	writer.Header().Set("content-type", "application/xml; charset=UTF-8")
	writer.WriteHeader(failure.Status)
	if failure.Status != http.StatusNotModified {
		_, _ = io.WriteString(writer, xml.Header+string(text))
	}
}
