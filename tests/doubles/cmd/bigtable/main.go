// Command bigtable runs Google's in-memory Bigtable and prints its address, and below it that of its faults.
package main

import (
	"flag"
	"log"
	"net/http"

	"cloud.google.com/go/bigtable/bttest"
	"google.golang.org/grpc"

	"sawlog.test/doubles/internal/authority"
	"sawlog.test/doubles/internal/bigtable"
	"sawlog.test/doubles/internal/start"
)

func main() {
	folder := flag.String("tls", "", "speak TLS, and write what clients need into this folder")
	listeners := start.Listen("listen", "control")
	faults := bigtable.NewFaults()
	listener := faults.Listen(listeners[0])
	if *folder != "" {
		encrypted, err := authority.Listen(listener, *folder)
		if err != nil {
			log.Fatal(err)
		}
		listener = encrypted
	}
	options := append(faults.Options(), grpc.MaxRecvMsgSize(256<<20))
	if _, err := bttest.NewServerWithListener(listener, options...); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listeners[1], faults))
}
