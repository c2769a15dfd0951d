package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// upload answers the three kinds of uploads of the JSON interface.
func (server *Server) upload(writer http.ResponseWriter, request *http.Request, bucket string) error {
	query := request.URL.Query()
	switch kind := query.Get("uploadType"); {
	case query.Has("upload_id"):
		return server.resume(writer, request, query.Get("upload_id"))
	case kind == "resumable":
		return server.beginResumable(writer, request, bucket)
	case kind == "multipart":
		return server.putRelated(writer, request, bucket)
	case kind == "media":
		contentType := request.Header.Get("content-type")
		return server.insert(writer, request, bucket, request.Body, settingsJSON{ContentType: &contentType})
	}
	return invalid("uploadType is media, multipart or resumable")
}

// putRelated answers an upload of metadata and content in one body, and of checksums that come last.
func (server *Server) putRelated(writer http.ResponseWriter, request *http.Request, bucket string) error {
	_, parameters, err := mime.ParseMediaType(request.Header.Get("content-type"))
	if err != nil {
		return invalid(err.Error())
	}
	reader := multipart.NewReader(request.Body, parameters["boundary"])
	var given settingsJSON
	part, err := reader.NextRawPart()
	if err != nil {
		return invalid("the metadata are missing: " + err.Error())
	}
	if err := json.NewDecoder(part).Decode(&given); err != nil {
		return invalid("the metadata cannot be read: " + err.Error())
	}
	if part, err = reader.NextRawPart(); err != nil {
		return invalid("the content is missing: " + err.Error())
	}
	if contentType := part.Header.Get("content-type"); given.ContentType == nil {
		given.ContentType = &contentType
	}
	content, err := io.ReadAll(part)
	if err != nil {
		return invalid("the content is cut short: " + err.Error())
	}
	if part, err = reader.NextRawPart(); err == nil {
		if err := json.NewDecoder(part).Decode(&given); err != nil {
			return invalid("the checksums cannot be read: " + err.Error())
		}
	}
	return server.insert(writer, request, bucket, bytes.NewReader(content), given)
}

// begin is an upload as its first call describes it.
func begin(request *http.Request, bucket string, given settingsJSON) (*upload, error) {
	if name := request.URL.Query().Get("name"); name != "" {
		given.Name = name
	}
	if given.Name == "" {
		return nil, invalid("Required parameter: name")
	}
	conditions, err := conditionsOfQuery(request.URL.Query(), "if")
	if err != nil {
		return nil, err
	}
	begun := &upload{Bucket: bucket, Key: given.Name, Conditions: conditions, CRC32C: given.CRC32C, MD5: given.MD5Hash, Length: -1}
	given.change(&begun.Settings)
	return begun, nil
}

func (server *Server) insert(writer http.ResponseWriter, request *http.Request, bucket string, content io.Reader, given settingsJSON) error {
	begun, err := begin(request, bucket, given)
	if err != nil {
		return err
	}
	staged, err := server.store.Stage(content)
	if err != nil {
		return err
	}
	return server.finish(writer, request, begun, staged)
}

// finish makes the object, if its content is what the writer said.
func (server *Server) finish(writer http.ResponseWriter, request *http.Request, begun *upload, staged *Staged) error {
	announced := http.Header{}
	for _, value := range request.Header.Values("x-goog-hash") {
		announced.Add("x-goog-hash", value)
	}
	if begun.CRC32C != "" {
		announced.Add("x-goog-hash", "crc32c="+begun.CRC32C)
	}
	if begun.MD5 != "" {
		announced.Add("x-goog-hash", "md5="+begun.MD5)
	}
	if err := checkHashes(announced, &staged.Object); err != nil {
		staged.Drop()
		return err
	}
	object, err := server.store.Put(begun.Bucket, begun.Key, staged, begun.Settings, begun.Conditions)
	if err != nil {
		return err
	}
	return writeJSON(writer, object.json(request))
}

func (server *Server) beginResumable(writer http.ResponseWriter, request *http.Request, bucket string) error {
	var given settingsJSON
	if err := json.NewDecoder(request.Body).Decode(&given); err != nil && err != io.EOF {
		return invalid("the metadata cannot be read: " + err.Error())
	}
	if contentType := request.Header.Get("x-upload-content-type"); given.ContentType == nil && contentType != "" {
		given.ContentType = &contentType
	}
	begun, err := begin(request, bucket, given)
	if err != nil {
		return err
	}
	if length, err := number(request.Header.Get("x-upload-content-length")); err != nil {
		return err
	} else if length != nil {
		begun.Length = *length
	}
	id, err := server.store.beginUpload(*begun)
	if err != nil {
		return err
	}
	writer.Header().Set("x-guploader-uploadid", id)
	writer.Header().Set("location", fmt.Sprintf(
		"http://%s/upload/storage/v1/b/%s/o?uploadType=resumable&upload_id=%s", request.Host, url.PathEscape(bucket), id))
	return nil
}

// resume takes the next bytes of a resumable upload, or says how many there are.
func (server *Server) resume(writer http.ResponseWriter, request *http.Request, id string) error {
	begun, folder, err := server.store.begunUpload(id)
	if err != nil {
		return err
	}
	if request.Method == "DELETE" {
		writer.WriteHeader(499)
		return os.RemoveAll(folder)
	}
	file, err := os.OpenFile(filepath.Join(folder, "content"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	start, total, err := contentRange(request.Header.Get("content-range"), have)
	if err != nil {
		return err
	}
	if total < 0 {
		total = begun.Length
	}
	if start > have {
		return invalid(fmt.Sprintf("the bytes start at %d, and %d are there", start, have))
	}
	if _, err := io.CopyN(io.Discard, request.Body, have-start); err != nil && err != io.EOF {
		return err
	}
	// What arrived stays, even if the connection breaks.
	added, copyErr := io.Copy(file, request.Body)
	have += added
	if copyErr != nil {
		return copyErr
	}
	isWhole := total >= 0 && have == total || total < 0 && request.Header.Get("content-range") == ""
	if !isWhole {
		if have > 0 {
			writer.Header().Set("range", fmt.Sprintf("bytes=0-%d", have-1))
		}
		writer.Header().Set("content-length", "0")
		writer.WriteHeader(308)
		return nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	staged, err := server.store.Stage(file)
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	return server.finish(writer, request, begun, staged)
}

// contentRange reads "bytes 0-99/200", "bytes 0-99/*" or "bytes */200": where the body starts, and the length of all (-1
// if that is not known yet).
func contentRange(text string, have int64) (start, total int64, err error) {
	if text == "" {
		return 0, -1, nil
	}
	wrong := invalid("content-range '" + text + "' cannot be read")
	span, size, found := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	if !found {
		return 0, 0, wrong
	}
	total = -1
	if size != "*" {
		if total, err = strconv.ParseInt(size, 10, 64); err != nil {
			return 0, 0, wrong
		}
	}
	if span == "*" {
		return have, total, nil
	}
	first, _, _ := strings.Cut(span, "-")
	if start, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, wrong
	}
	return start, total, nil
}

func (server *Server) compose(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	conditions, err := conditionsOfQuery(request.URL.Query(), "if")
	if err != nil {
		return err
	}
	var wanted struct {
		SourceObjects []struct {
			Name                string
			Generation          json.Number
			ObjectPreconditions struct{ IfGenerationMatch json.Number }
		}
		Destination settingsJSON
	}
	if err := json.NewDecoder(request.Body).Decode(&wanted); err != nil {
		return invalid(err.Error())
	}
	if len(wanted.SourceObjects) < 1 || len(wanted.SourceObjects) > composedMax {
		return invalid("1 to 32 objects can be composed")
	}
	file, err := os.CreateTemp(server.store.uploadsFolder(), "staged-")
	if err != nil {
		return err
	}
	defer file.Close()
	staged, check := &Staged{path: file.Name()}, crc32.New(castagnoli)
	for _, source := range wanted.SourceObjects {
		var given Conditions
		if given.Generation, err = number(string(source.Generation)); err == nil && given.Generation == nil {
			given.Generation, err = number(string(source.ObjectPreconditions.IfGenerationMatch))
		}
		var from *Object
		var content *os.File
		if err == nil {
			from, content, err = server.store.Get(bucket, source.Name, given)
		}
		if err == nil {
			_, err = io.Copy(io.MultiWriter(file, check), content)
			content.Close()
		}
		if err != nil {
			staged.Drop()
			return err
		}
		staged.Size += from.Size
		staged.Components += max(from.Components, 1)
	}
	staged.CRC32C = check.Sum32()
	var settings Settings
	wanted.Destination.change(&settings)
	object, err := server.store.Put(bucket, key, staged, settings, conditions)
	if err != nil {
		return err
	}
	return writeJSON(writer, object.json(request))
}

// batch answers many calls in one, as multipart/mixed.
func (server *Server) batch(writer http.ResponseWriter, request *http.Request) error {
	_, parameters, err := mime.ParseMediaType(request.Header.Get("content-type"))
	if err != nil {
		return invalid(err.Error())
	}
	reader := multipart.NewReader(request.Body, parameters["boundary"])
	var answers bytes.Buffer
	parts := multipart.NewWriter(&answers)
	for {
		part, err := reader.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return invalid(err.Error())
		}
		called, err := readCall(part, request)
		if err != nil {
			return invalid(err.Error())
		}
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, called)
		id := strings.TrimPrefix(strings.Trim(part.Header.Get("content-id"), "<>"), "response-")
		written, err := parts.CreatePart(textproto.MIMEHeader{
			"Content-Type": {"application/http"}, "Content-ID": {"<response-" + id + ">"},
		})
		if err != nil {
			return err
		}
		result := answer.Result()
		result.ContentLength = int64(answer.Body.Len())
		if err := result.Write(written); err != nil {
			return err
		}
	}
	if err := parts.Close(); err != nil {
		return err
	}
	writer.Header().Set("content-type", "multipart/mixed; boundary="+parts.Boundary())
	_, err = writer.Write(answers.Bytes())
	return err
}

// readCall reads one call of a batch. Google's clients write its first line with or without a protocol version, and with
// an address that has the host in it.
func readCall(part io.Reader, batch *http.Request) (*http.Request, error) {
	text, err := io.ReadAll(part)
	if err != nil {
		return nil, err
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n\n")
	line, headers, _ := strings.Cut(head, "\n")
	words := strings.Fields(line)
	if len(words) < 2 {
		return nil, invalid("a call of the batch has no first line")
	}
	address, err := url.Parse(words[1])
	if err != nil {
		return nil, err
	}
	called, err := http.NewRequest(words[0], "http://"+batch.Host+address.RequestURI(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for header := range strings.SplitSeq(headers, "\n") {
		if name, value, found := strings.Cut(header, ":"); found {
			called.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	return called, nil
}
