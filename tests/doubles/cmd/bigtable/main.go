// Command bigtable runs Google's in-memory Bigtable and prints its address, and below it that of its faults.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"

	"cloud.google.com/go/bigtable/bttest"
	"google.golang.org/grpc"

	"sawlog.test/doubles/internal/bigtable"
)

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address to listen on")
	control := flag.String("control", "127.0.0.1:0", "address to set faults at")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	controlListener, err := net.Listen("tcp", *control)
	if err != nil {
		log.Fatal(err)
	}
	faults := bigtable.NewFaults()
	options := append(faults.Options(), grpc.MaxRecvMsgSize(256<<20))
	if _, err := bttest.NewServerWithListener(faults.Listen(listener), options...); err != nil {
		log.Fatal(err)
	}
	// In one piece: who reads the first line only may close the pipe.
	fmt.Printf("%s\n%s\n", listener.Addr(), controlListener.Addr())
	log.Fatal(http.Serve(controlListener, faults))
}
