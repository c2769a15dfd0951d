package storage

import (
	"crypto/md5"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

// partBytesMin is the least size of all parts but the last.
const partBytesMin = 5 << 20

// upload is one that is not finished, kept over restarts.
type upload struct {
	Bucket     string
	Key        string
	Settings   Settings
	Conditions Conditions
	Length     int64  // of the content as announced; negative if not
	CRC32C     string // as announced; empty if not
	MD5        string
}

func (store *Store) beginUpload(begun upload) (string, error) {
	if _, err := store.path(begun.Bucket, begun.Key); err != nil {
		return "", err
	}
	id, err := store.newID()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(begun)
	if err != nil {
		return "", err
	}
	return id, os.WriteFile(filepath.Join(store.uploadsFolder(), id, "upload.json"), text, 0o644)
}

func (store *Store) begunUpload(id string) (*upload, string, error) {
	folder, err := store.uploadFolder(id)
	if err != nil {
		return nil, "", err
	}
	begun := &upload{}
	text, err := os.ReadFile(filepath.Join(folder, "upload.json"))
	if err != nil {
		return nil, "", err
	}
	return begun, folder, json.Unmarshal(text, begun)
}

// begunPart is the upload that a call of the XML interface names, which must be one of the object in its path.
func (server *Server) begunPart(request *http.Request, bucket, key string) (*upload, string, error) {
	begun, folder, err := server.store.begunUpload(request.URL.Query().Get("uploadId"))
	if err == nil && (begun.Bucket != bucket || begun.Key != key) {
		err = invalid("the upload is one of another object")
	}
	return begun, folder, err
}

func (server *Server) initiate(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	conditions, err := conditionsOfHeaders(request.Header)
	if err != nil {
		return err
	}
	if conditions != (Conditions{}) {
		return invalid("preconditions are not supported by multipart uploads of the XML interface")
	}
	id, err := server.store.beginUpload(upload{Bucket: bucket, Key: key, Settings: settingsOfHeaders(request.Header)})
	if err != nil {
		return err
	}
	return writeXML(writer, struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket   string
		Key      string
		UploadId string
	}{Bucket: bucket, Key: key, UploadId: id})
}

func (server *Server) putPart(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	_, folder, err := server.begunPart(request, bucket, key)
	if err != nil {
		return err
	}
	part, err := number(request.URL.Query().Get("partNumber"))
	if err != nil || part == nil || *part < 1 || *part > 10_000 {
		return invalid("partNumber is from 1 to 10000")
	}
	staged, err := server.store.Stage(request.Body)
	if err != nil {
		return err
	}
	if err := checkHashes(request.Header, &staged.Object); err != nil {
		staged.Drop()
		return err
	}
	if err := os.Rename(staged.path, filepath.Join(folder, strconv.FormatInt(*part, 10))); err != nil {
		return err
	}
	writer.Header().Set("etag", fmt.Sprintf("\"%x\"", staged.MD5))
	return nil
}

func (server *Server) complete(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	begun, folder, err := server.begunPart(request, bucket, key)
	if err != nil {
		return err
	}
	var wanted struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.NewDecoder(request.Body).Decode(&wanted); err != nil || len(wanted.Part) == 0 {
		return &Failure{400, "MalformedCompleteMultipartUploadRequest", "", "the parts are missing or cannot be read"}
	}
	file, err := os.CreateTemp(server.store.uploadsFolder(), "staged-")
	if err != nil {
		return err
	}
	staged := &Staged{path: file.Name(), Object: Object{Components: len(wanted.Part)}}
	check := crc32.New(castagnoli)
	for index, part := range wanted.Part {
		isLast := index+1 == len(wanted.Part)
		isInOrder := index == 0 || wanted.Part[index-1].PartNumber < part.PartNumber
		var bytes int64
		if !isInOrder {
			err = &Failure{400, "InvalidPartOrder", "", "the parts are not in ascending order"}
		} else {
			bytes, err = appendPart(io.MultiWriter(file, check), filepath.Join(folder, strconv.Itoa(part.PartNumber)), part.ETag)
		}
		if err == nil && bytes < partBytesMin && !isLast {
			err = &Failure{400, "EntityTooSmall", "", "a part that is not the last has less than 5 MiB"}
		}
		if err != nil {
			file.Close()
			staged.Drop()
			return err
		}
		staged.Size += bytes
	}
	if err := file.Close(); err != nil {
		return err
	}
	staged.CRC32C = check.Sum32()
	object, err := server.store.Put(bucket, key, staged, begun.Settings, Conditions{})
	if err != nil {
		return err
	}
	os.RemoveAll(folder)
	object.headers(writer.Header())
	return writeXML(writer, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket  string
		Key     string
		ETag    string
	}{Bucket: bucket, Key: key, ETag: object.etagXML()})
}

// appendPart writes a part that was stored under an ETag, and returns its size.
func appendPart(writer io.Writer, path, etag string) (int64, error) {
	missing := &Failure{400, "InvalidPart", "", "a part was not found, or its ETag is another one"}
	file, err := os.Open(path)
	if err != nil {
		return 0, missing
	}
	defer file.Close()
	sum := md5.New()
	bytes, err := io.Copy(io.MultiWriter(writer, sum), file)
	if err == nil && fmt.Sprintf("\"%x\"", sum.Sum(nil)) != etag {
		err = missing
	}
	return bytes, err
}

func (server *Server) abort(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	_, folder, err := server.begunPart(request, bucket, key)
	if err != nil {
		return err
	}
	writer.WriteHeader(204)
	return os.RemoveAll(folder)
}
