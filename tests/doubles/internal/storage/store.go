// Package storage is a double of Cloud Storage: its XML and JSON interfaces over files below a folder.
//
// gs://BUCKET/KEY is the file ROOT/BUCKET/KEY, so that a program that reads files sees the same objects. What a file
// cannot say (generation, metadata, checksums) is in ROOT/.metadata, unfinished uploads are in ROOT/.uploads; no bucket
// has a name that begins with a dot. Since objects are files, "a" and "a/b" cannot be there at the same time.
package storage

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"
)

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$`)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Object is what is known of an object beside its content.
type Object struct {
	Bucket         string `json:"-"`
	Key            string `json:"-"`
	Size           int64
	CRC32C         uint32
	MD5            []byte // none if it was made of parts
	Generation     int64
	Metageneration int64
	Created        time.Time
	Updated        time.Time
	Components     int
	Settings
}

// Settings are what a writer says of an object.
type Settings struct {
	ContentType        string
	ContentEncoding    string
	ContentDisposition string
	ContentLanguage    string
	CacheControl       string
	Metadata           map[string]string
}

// Conditions are preconditions; nil means none. A generation of 0 is that of an object that is not there.
type Conditions struct {
	Generation        *int64
	NotGeneration     *int64
	Metageneration    *int64
	NotMetageneration *int64
}

// Failure is an answer other than success.
type Failure struct {
	Status  int
	Code    string // of the XML interface
	Reason  string // of the JSON interface
	Message string
}

func (failure *Failure) Error() string { return failure.Message }

func invalid(message string) error {
	return &Failure{400, "InvalidArgument", "invalid", message}
}

func noObject(bucket, key string) error {
	return &Failure{404, "NoSuchKey", "notFound", "No such object: " + bucket + "/" + key}
}

// Store is all buckets below a folder.
type Store struct {
	root       string
	mutex      sync.RWMutex
	generation int64
}

// Open opens the store of a folder, which is made if it is missing.
func Open(root string) (*Store, error) {
	store := &Store{root: root}
	for _, folder := range []string{store.metadataFolder(), store.uploadsFolder()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	return store, nil
}

func (store *Store) metadataFolder() string { return filepath.Join(store.root, ".metadata") }
func (store *Store) uploadsFolder() string  { return filepath.Join(store.root, ".uploads") }

// MakeBucket makes a bucket; one that is there stays.
func (store *Store) MakeBucket(bucket string) error {
	if !bucketName.MatchString(bucket) {
		return &Failure{400, "InvalidBucketName", "invalid", "Invalid bucket name: '" + bucket + "'"}
	}
	return os.MkdirAll(filepath.Join(store.root, bucket), 0o755)
}

// HasBucket says whether a bucket is there.
func (store *Store) HasBucket(bucket string) bool {
	found, err := os.Stat(filepath.Join(store.root, bucket))
	return bucketName.MatchString(bucket) && err == nil && found.IsDir()
}

// Buckets are the names of all buckets.
func (store *Store) Buckets() []string {
	var names []string
	entries, _ := os.ReadDir(store.root)
	for _, entry := range entries {
		if store.HasBucket(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// RemoveBucket removes an empty bucket.
func (store *Store) RemoveBucket(bucket string) error {
	objects, err := store.list(bucket)
	if err != nil {
		return err
	}
	if len(objects) > 0 {
		return &Failure{409, "BucketNotEmpty", "conflict", "The bucket you tried to delete is not empty."}
	}
	return os.RemoveAll(filepath.Join(store.root, bucket))
}

// path is the file of an object.
func (store *Store) path(bucket, key string) (string, error) {
	if !store.HasBucket(bucket) {
		return "", &Failure{404, "NoSuchBucket", "notFound", "The specified bucket does not exist."}
	}
	if !fs.ValidPath(key) || key == "." || len(key) > 1024 {
		return "", invalid("this double keeps objects as files, and '" + key + "' cannot be the name of one")
	}
	return filepath.Join(store.root, bucket, filepath.FromSlash(key)), nil
}

func (store *Store) metadataPath(bucket, key string) string {
	return filepath.Join(store.metadataFolder(), bucket, filepath.FromSlash(key)+".json")
}

// Get opens an object. The file stays readable when the object goes.
func (store *Store) Get(bucket, key string, conditions Conditions) (*Object, *os.File, error) {
	store.mutex.RLock()
	defer store.mutex.RUnlock()
	object, err := store.object(bucket, key)
	if err != nil {
		return nil, nil, err
	}
	if object == nil {
		return nil, nil, noObject(bucket, key)
	}
	if err := conditions.check(object, true); err != nil {
		return nil, nil, err
	}
	path, _ := store.path(bucket, key)
	file, err := os.Open(path)
	return object, file, err
}

// object is what is known of an object; nil if there is none.
func (store *Store) object(bucket, key string) (*Object, error) {
	path, err := store.path(bucket, key)
	if err != nil {
		return nil, err
	}
	found, err := os.Stat(path)
	if err != nil || found.IsDir() {
		return nil, nil
	}
	object := &Object{}
	text, err := os.ReadFile(store.metadataPath(bucket, key))
	if err != nil || json.Unmarshal(text, object) != nil || object.Size != found.Size() {
		// Another program wrote the file.
		if object, err = describe(path); err != nil {
			return nil, err
		}
		object.Created, object.Updated = found.ModTime(), found.ModTime()
		object.Generation, object.Metageneration = found.ModTime().UnixMicro(), 1
	}
	object.Bucket, object.Key = bucket, key
	return object, nil
}

// describe reads a file for its size and checksums.
func describe(path string) (*Object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sum, check := md5.New(), crc32.New(castagnoli)
	size, err := io.Copy(io.MultiWriter(sum, check), file)
	return &Object{Size: size, CRC32C: check.Sum32(), MD5: sum.Sum(nil)}, err
}

// Staged is content that is not an object yet.
type Staged struct {
	path string
	Object
}

// Stage writes content to a file of its own.
func (store *Store) Stage(content io.Reader) (*Staged, error) {
	file, err := os.CreateTemp(store.uploadsFolder(), "staged-")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sum, check := md5.New(), crc32.New(castagnoli)
	size, err := io.Copy(io.MultiWriter(file, sum, check), content)
	if err != nil {
		os.Remove(file.Name())
		return nil, err
	}
	return &Staged{file.Name(), Object{Size: size, CRC32C: check.Sum32(), MD5: sum.Sum(nil)}}, nil
}

// Drop removes content that is not to become an object.
func (staged *Staged) Drop() { os.Remove(staged.path) }

// Put makes an object of what is staged, in one step.
func (store *Store) Put(bucket, key string, staged *Staged, settings Settings, conditions Conditions) (*Object, error) {
	defer staged.Drop()
	store.mutex.Lock()
	defer store.mutex.Unlock()
	existing, err := store.object(bucket, key)
	if err != nil {
		return nil, err
	}
	if err := conditions.check(existing, false); err != nil {
		return nil, err
	}
	path, _ := store.path(bucket, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, invalid("this double keeps objects as files, and one of the folders of '" + key + "' is an object")
	}
	object := staged.Object
	object.Bucket, object.Key, object.Settings = bucket, key, settings
	object.Created = time.Now().UTC()
	object.Updated, object.Generation, object.Metageneration = object.Created, store.next(object.Created), 1
	if err := store.describe(&object); err != nil {
		return nil, err
	}
	if err := os.Rename(staged.path, path); err != nil {
		os.Remove(store.metadataPath(bucket, key))
		return nil, invalid("this double keeps objects as files, and '" + key + "' is a folder of others")
	}
	return &object, nil
}

// next is a generation that is larger than all before.
func (store *Store) next(now time.Time) int64 {
	store.generation = max(store.generation+1, now.UnixMicro())
	return store.generation
}

// describe writes what is known of an object.
func (store *Store) describe(object *Object) error {
	path := store.metadataPath(object.Bucket, object.Key)
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Patch changes the settings of an object.
func (store *Store) Patch(bucket, key string, conditions Conditions, change func(*Settings)) (*Object, error) {
	store.mutex.Lock()
	defer store.mutex.Unlock()
	object, err := store.object(bucket, key)
	if err != nil {
		return nil, err
	}
	if object == nil {
		return nil, noObject(bucket, key)
	}
	if err := conditions.check(object, false); err != nil {
		return nil, err
	}
	change(&object.Settings)
	object.Metageneration++
	object.Updated = time.Now().UTC()
	return object, store.describe(object)
}

// Delete removes an object, and folders that it leaves empty.
func (store *Store) Delete(bucket, key string, conditions Conditions) error {
	store.mutex.Lock()
	defer store.mutex.Unlock()
	object, err := store.object(bucket, key)
	if err != nil {
		return err
	}
	if object == nil {
		return noObject(bucket, key)
	}
	if err := conditions.check(object, false); err != nil {
		return err
	}
	path, _ := store.path(bucket, key)
	if err := os.Remove(path); err != nil {
		return err
	}
	os.Remove(store.metadataPath(bucket, key))
	bucketFolder := filepath.Join(store.root, bucket)
	for folder := filepath.Dir(path); folder != bucketFolder && os.Remove(folder) == nil; {
		folder = filepath.Dir(folder)
	}
	return nil
}

// list is all objects of a bucket in the order of their keys' bytes.
func (store *Store) list(bucket string) ([]*Object, error) {
	store.mutex.RLock()
	defer store.mutex.RUnlock()
	if !store.HasBucket(bucket) {
		return nil, &Failure{404, "NoSuchBucket", "notFound", "The specified bucket does not exist."}
	}
	folder := filepath.Join(store.root, bucket)
	var objects []*Object
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		key, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		object, err := store.object(bucket, filepath.ToSlash(key))
		if object != nil {
			objects = append(objects, object)
		}
		return err
	})
	sort.Slice(objects, func(one, other int) bool { return objects[one].Key < objects[other].Key })
	return objects, err
}

// Page is a part of a list.
type Page struct {
	Objects  []*Object
	Prefixes []string
	Next     string // where the next page starts; empty at the end
}

// Query says which keys a list has.
type Query struct {
	Prefix    string
	Delimiter string
	From      string // the least key
	After     string // a key (or common prefix) that all are after
	Before    string // a key that all are before; empty for none
	Max       int
}

// List is one page of the keys of a bucket; keys with the same part up to a delimiter after the prefix are one prefix.
func (store *Store) List(bucket string, query Query) (*Page, error) {
	objects, err := store.list(bucket)
	if err != nil {
		return nil, err
	}
	page, last := &Page{}, ""
	for _, object := range objects {
		key, shared := object.Key, ""
		if !strings.HasPrefix(key, query.Prefix) || key < query.From || query.Before != "" && key >= query.Before {
			continue
		}
		if query.Delimiter != "" {
			if end := strings.Index(key[len(query.Prefix):], query.Delimiter); end >= 0 {
				shared = key[:len(query.Prefix)+end+len(query.Delimiter)]
				key = shared
			}
		}
		if query.After != "" && key <= query.After || shared != "" && shared == last {
			continue
		}
		if len(page.Objects)+len(page.Prefixes) == query.Max {
			page.Next = last
			break
		}
		last = key
		if shared != "" {
			page.Prefixes = append(page.Prefixes, shared)
		} else {
			page.Objects = append(page.Objects, object)
		}
	}
	return page, nil
}

func (conditions Conditions) check(object *Object, isRead bool) error {
	generation, metageneration := int64(0), int64(0)
	if object != nil {
		generation, metageneration = object.Generation, object.Metageneration
	}
	differs := func(wanted *int64, actual int64) bool { return wanted != nil && *wanted != actual }
	equals := func(unwanted *int64, actual int64) bool { return unwanted != nil && *unwanted == actual }
	if differs(conditions.Generation, generation) || differs(conditions.Metageneration, metageneration) {
		return &Failure{412, "PreconditionFailed", "conditionNotMet", "At least one of the pre-conditions you specified did not hold."}
	}
	if equals(conditions.NotGeneration, generation) || equals(conditions.NotMetageneration, metageneration) {
		if isRead {
			return &Failure{304, "NotModified", "notModified", "Not modified"}
		}
		return &Failure{412, "PreconditionFailed", "conditionNotMet", "At least one of the pre-conditions you specified did not hold."}
	}
	return nil
}

// bigEndian is a CRC32C as Google writes it.
func bigEndian(check uint32) []byte { return binary.BigEndian.AppendUint32(nil, check) }

// newID is a name for an upload.
func (store *Store) newID() (string, error) {
	folder, err := os.MkdirTemp(store.uploadsFolder(), "upload-")
	return filepath.Base(folder), err
}

// uploadFolder is where an upload is kept; an error if there is none.
func (store *Store) uploadFolder(id string) (string, error) {
	missing := &Failure{404, "NoSuchUpload", "notFound", "The requested upload was not found."}
	if !fs.ValidPath(id) || strings.Contains(id, "/") || !strings.HasPrefix(id, "upload-") {
		return "", missing
	}
	folder := filepath.Join(store.uploadsFolder(), id)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return "", missing
	}
	return folder, nil
}

// unescape decodes one part of a path.
func unescape(part string) (string, error) {
	text, err := url.PathUnescape(part)
	if err != nil {
		return "", invalid("the path is not valid: " + err.Error())
	}
	return text, nil
}
