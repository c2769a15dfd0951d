package storage

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// composedMax is how many objects one call composes at most.
const composedMax = 32

// json answers the JSON interface; the parts are those after the collection of buckets.
func (server *Server) json(writer http.ResponseWriter, request *http.Request, parts []string) error {
	switch {
	case len(parts) == 0:
		return server.buckets(writer, request)
	case len(parts) == 3 && parts[1] == "iam" && parts[2] == "testPermissions" && request.Method == "GET":
		if !server.store.HasBucket(parts[0]) {
			return noBucket()
		}
		asked := request.URL.Query()["permissions"]
		return writeJSON(writer, map[string]any{"permissions": server.denied.Held(asked)})
	case len(parts) == 1:
		return server.bucket(writer, request, parts[0])
	case len(parts) == 2 && parts[1] == "o" && request.Method == "GET":
		return server.listJSON(writer, request, parts[0])
	case len(parts) == 3 && parts[1] == "o":
		return server.object(writer, request, parts[0], parts[2])
	case len(parts) == 4 && parts[1] == "o" && parts[3] == "compose" && request.Method == "POST":
		return server.compose(writer, request, parts[0], parts[2])
	case len(parts) == 8 && parts[1] == "o" && parts[4] == "b" && parts[6] == "o" && request.Method == "POST":
		return server.rewrite(writer, request, parts)
	}
	return notImplemented(request)
}

func notImplemented(request *http.Request) error {
	return &Failure{501, "NotImplemented", "notImplemented", request.Method + " " + request.URL.Path + " is no call of this double"}
}

func (server *Server) buckets(writer http.ResponseWriter, request *http.Request) error {
	switch request.Method {
	case "GET":
		items := []any{}
		for _, bucket := range server.store.Buckets() {
			items = append(items, bucketJSON(bucket))
		}
		return writeJSON(writer, map[string]any{"kind": "storage#buckets", "items": items})
	case "POST":
		var wanted struct{ Name string }
		if err := json.NewDecoder(request.Body).Decode(&wanted); err != nil {
			return invalid(err.Error())
		}
		if server.store.HasBucket(wanted.Name) {
			return &Failure{409, "BucketAlreadyOwnedByYou", "conflict", "Your previous request to create the named bucket succeeded and you already own it."}
		}
		if err := server.store.MakeBucket(wanted.Name); err != nil {
			return err
		}
		return writeJSON(writer, bucketJSON(wanted.Name))
	}
	return notImplemented(request)
}

func (server *Server) bucket(writer http.ResponseWriter, request *http.Request, bucket string) error {
	if !server.store.HasBucket(bucket) {
		return noBucket()
	}
	switch request.Method {
	case "GET":
		if server.denied.Has("storage.buckets.get") {
			return &Failure{403, "AccessDenied", "forbidden", "The caller does not have storage.buckets.get access to the bucket."}
		}
		return writeJSON(writer, server.bucketJSON(bucket))
	case "DELETE":
		if err := server.store.RemoveBucket(bucket); err != nil {
			return err
		}
		writer.WriteHeader(204)
		return nil
	}
	return notImplemented(request)
}

func noBucket() error {
	return &Failure{404, "NoSuchBucket", "notFound", "The specified bucket does not exist."}
}

func bucketJSON(bucket string) map[string]any {
	return map[string]any{
		"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US", "locationType": "multi-region",
		"storageClass": "STANDARD", "metageneration": "1", "etag": "CAE=", "projectNumber": "0",
	}
}

func (server *Server) object(writer http.ResponseWriter, request *http.Request, bucket, key string) error {
	conditions, err := conditionsOfQuery(request.URL.Query(), "if")
	if err != nil {
		return err
	}
	if generation := request.URL.Query().Get("generation"); generation != "" && conditions.Generation == nil {
		if conditions.Generation, err = number(generation); err != nil {
			return err
		}
	}
	switch request.Method {
	case "GET":
		object, file, err := server.store.Get(bucket, key, conditions)
		if err != nil {
			return err
		}
		defer file.Close()
		if request.URL.Query().Get("alt") != "media" {
			return writeJSON(writer, object.json(request))
		}
		object.headers(writer.Header())
		writer.Header().Set("etag", object.etagJSON())
		serve(writer, request, object, file)
		return nil
	case "PATCH", "PUT":
		return server.patch(writer, request, bucket, key, conditions)
	case "DELETE":
		if err := server.store.Delete(bucket, key, conditions); err != nil {
			return err
		}
		writer.WriteHeader(204)
		return nil
	}
	return notImplemented(request)
}

// settingsJSON is an object as a client writes it; nil leaves a setting, and null in the metadata removes a key.
type settingsJSON struct {
	Name               string
	ContentType        *string
	ContentEncoding    *string
	ContentDisposition *string
	ContentLanguage    *string
	CacheControl       *string
	Metadata           map[string]*string
	CRC32C             string
	MD5Hash            string
}

func (given *settingsJSON) change(settings *Settings) {
	set := func(target *string, value *string) {
		if value != nil {
			*target = *value
		}
	}
	set(&settings.ContentType, given.ContentType)
	set(&settings.ContentEncoding, given.ContentEncoding)
	set(&settings.ContentDisposition, given.ContentDisposition)
	set(&settings.ContentLanguage, given.ContentLanguage)
	set(&settings.CacheControl, given.CacheControl)
	for key, value := range given.Metadata {
		if settings.Metadata == nil {
			settings.Metadata = map[string]string{}
		}
		if value == nil {
			delete(settings.Metadata, key)
		} else {
			settings.Metadata[key] = *value
		}
	}
}

func (server *Server) patch(writer http.ResponseWriter, request *http.Request, bucket, key string, conditions Conditions) error {
	var given settingsJSON
	if err := json.NewDecoder(request.Body).Decode(&given); err != nil {
		return invalid(err.Error())
	}
	object, err := server.store.Patch(bucket, key, conditions, func(settings *Settings) {
		if request.Method == "PUT" {
			*settings = Settings{}
		}
		given.change(settings)
	})
	if err != nil {
		return err
	}
	return writeJSON(writer, object.json(request))
}

func (server *Server) listJSON(writer http.ResponseWriter, request *http.Request, bucket string) error {
	query := request.URL.Query()
	most, err := number(query.Get("maxResults"))
	if err != nil {
		return err
	}
	after, err := tokenKey(query.Get("pageToken"))
	if err != nil {
		return err
	}
	page, err := server.store.List(bucket, Query{
		Prefix: query.Get("prefix"), Delimiter: query.Get("delimiter"), From: query.Get("startOffset"),
		Before: query.Get("endOffset"), After: after, Max: server.pageSize(most),
	})
	if err != nil {
		return err
	}
	items := []any{}
	for _, object := range page.Objects {
		items = append(items, object.json(request))
	}
	answer := map[string]any{"kind": "storage#objects", "items": items}
	if len(page.Prefixes) > 0 {
		answer["prefixes"] = page.Prefixes
	}
	if page.Next != "" {
		answer["nextPageToken"] = token(page.Next)
	}
	return writeJSON(writer, answer)
}

// rewrite answers BUCKET/o/KEY/{rewriteTo,copyTo}/b/BUCKET/o/KEY, in one step however large the object is.
func (server *Server) rewrite(writer http.ResponseWriter, request *http.Request, parts []string) error {
	source, err := conditionsOfQuery(request.URL.Query(), "ifSource")
	if err != nil {
		return err
	}
	if generation := request.URL.Query().Get("sourceGeneration"); generation != "" {
		if source.Generation, err = number(generation); err != nil {
			return err
		}
	}
	conditions, err := conditionsOfQuery(request.URL.Query(), "if")
	if err != nil {
		return err
	}
	var replaced *Settings
	var given settingsJSON
	// An empty body, or an empty object, takes the settings over.
	if json.NewDecoder(request.Body).Decode(&given) == nil && (given.Metadata != nil || given.ContentType != nil) {
		replaced = &Settings{}
		given.change(replaced)
	}
	object, err := server.store.Copy(parts[0], parts[2], source, parts[5], parts[7], replaced, conditions)
	if err != nil {
		return err
	}
	if parts[3] == "copyTo" {
		return writeJSON(writer, object.json(request))
	}
	size := strconv.FormatInt(object.Size, 10)
	return writeJSON(writer, map[string]any{
		"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": true,
		"resource": object.json(request),
	})
}

func conditionsOfQuery(query url.Values, prefix string) (conditions Conditions, err error) {
	for name, target := range map[string]**int64{
		"GenerationMatch": &conditions.Generation, "GenerationNotMatch": &conditions.NotGeneration,
		"MetagenerationMatch": &conditions.Metageneration, "MetagenerationNotMatch": &conditions.NotMetageneration,
	} {
		if *target, err = number(query.Get(prefix + name)); err != nil {
			return conditions, err
		}
	}
	return conditions, nil
}

func (object *Object) etagJSON() string {
	return base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(object.Generation+object.Metageneration, 10)))
}

func (object *Object) json(request *http.Request) map[string]any {
	generation := strconv.FormatInt(object.Generation, 10)
	path := "/storage/v1/b/" + object.Bucket + "/o/" + url.PathEscape(object.Key)
	answer := map[string]any{
		"kind": "storage#object", "id": object.Bucket + "/" + object.Key + "/" + generation,
		"selfLink":  "http://" + request.Host + path,
		"mediaLink": "http://" + request.Host + "/download" + path + "?generation=" + generation + "&alt=media",
		"name":      object.Key, "bucket": object.Bucket, "generation": generation,
		"metageneration": strconv.FormatInt(object.Metageneration, 10), "storageClass": "STANDARD",
		"size": strconv.FormatInt(object.Size, 10), "etag": object.etagJSON(),
		"crc32c":      base64.StdEncoding.EncodeToString(bigEndian(object.CRC32C)),
		"timeCreated": object.Created.UTC().Format(time.RFC3339Nano), "updated": object.Updated.UTC().Format(time.RFC3339Nano),
		"timeStorageClassUpdated": object.Created.UTC().Format(time.RFC3339Nano),
	}
	if object.MD5 != nil {
		answer["md5Hash"] = base64.StdEncoding.EncodeToString(object.MD5)
	}
	if object.Components > 0 {
		answer["componentCount"] = object.Components
	}
	if len(object.Metadata) > 0 {
		answer["metadata"] = object.Metadata
	}
	for name, value := range map[string]string{
		"contentType": object.ContentType, "contentEncoding": object.ContentEncoding, "contentLanguage": object.ContentLanguage,
		"contentDisposition": object.ContentDisposition, "cacheControl": object.CacheControl,
	} {
		if value != "" {
			answer[name] = value
		}
	}
	return answer
}

func writeJSON(writer http.ResponseWriter, answer any) error {
	writer.Header().Set("content-type", "application/json; charset=UTF-8")
	return json.NewEncoder(writer).Encode(answer)
}

func writeJSONError(writer http.ResponseWriter, err error) {
	failure := failure(err)
	writer.Header().Set("content-type", "application/json; charset=UTF-8")
	writer.WriteHeader(failure.Status)
	if failure.Status == http.StatusNotModified {
		return
	}
	_ = json.NewEncoder(writer).Encode(map[string]any{"error": map[string]any{
		"code": failure.Status, "message": failure.Message,
		"errors": []any{map[string]any{"message": failure.Message, "domain": "global", "reason": failure.Reason}},
	}})
}
