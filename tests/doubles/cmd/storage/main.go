// Command storage runs the double of Cloud Storage, which keeps objects as files, and prints its address.
package main

import (
	"flag"
	"log"
	"net/http"
	"strings"

	"sawlog.test/doubles/internal/start"
	"sawlog.test/doubles/internal/storage"
)

func main() {
	root := flag.String("root", "", "folder of the objects: gs://BUCKET/KEY is the file ROOT/BUCKET/KEY")
	buckets := flag.String("bucket", "", "buckets to make if they are missing, separated by commas")
	page := flag.Int("page", 1000, "most keys on one page of a list")
	listener := start.Listen("listen")[0]
	if *root == "" {
		log.Fatal("-root is missing: name the folder of the objects")
	}
	store, err := storage.Open(*root)
	if err != nil {
		log.Fatal(err)
	}
	for _, bucket := range strings.FieldsFunc(*buckets, func(letter rune) bool { return letter == ',' }) {
		if err := store.MakeBucket(bucket); err != nil {
			log.Fatal(err)
		}
	}
	log.Fatal(http.Serve(listener, storage.NewServer(store, *page)))
}
