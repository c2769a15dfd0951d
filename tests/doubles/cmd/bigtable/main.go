// Command bigtable runs Google's in-memory Bigtable and prints its address, and below it that of its faults.
package main

import (
	"log"
	"net/http"

	"cloud.google.com/go/bigtable/bttest"
	"google.golang.org/grpc"

	"sawlog.test/doubles/internal/bigtable"
	"sawlog.test/doubles/internal/start"
)

func main() {
	listeners := start.Listen("listen", "control")
	faults := bigtable.NewFaults()
	options := append(faults.Options(), grpc.MaxRecvMsgSize(256<<20))
	if _, err := bttest.NewServerWithListener(faults.Listen(listeners[0]), options...); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listeners[1], faults))
}
