// Package permissions lets a test take away what the caller of a double may do.
//
// A test PUTs a list of permissions as JSON to Path: those are denied from then on, all others are held.
package permissions

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Path is where permissions are taken away.
const Path = "/_denied"

// Denied holds the permissions that are taken away. Its zero value has none.
type Denied struct {
	mutex sync.Mutex
	names []string
}

// Has tells whether a permission is taken away.
func (d *Denied) Has(permission string) bool {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return slices.Contains(d.names, permission)
}

// Held gives those of a list that are not taken away: the answer to testIamPermissions.
func (d *Denied) Held(asked []string) []string {
	held := []string{}
	for _, permission := range asked {
		if !d.Has(permission) {
			held = append(held, permission)
		}
	}
	return held
}

// Check is the error of a call that needs a permission.
func (d *Denied) Check(permission string) error {
	if d.Has(permission) {
		return status.Errorf(codes.PermissionDenied, "Permission '%s' denied on the resource.", permission)
	}
	return nil
}

// ServeHTTP takes the wishes of tests.
func (d *Denied) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	names := []string{}
	if err := json.NewDecoder(request.Body).Decode(&names); request.Method != http.MethodPut || err != nil {
		http.Error(writer, "PUT a list of permissions", http.StatusBadRequest)
		return
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.names = names
}
