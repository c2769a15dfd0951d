// Command pstest runs Google's own in-memory Pub/Sub, with the administrative calls in JSON beside it, and prints its address.
//
// It is the second opinion on what our double (cmd/pubsub) does: slow, at most 4 MiB a message, without snapshots and pushes.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"

	"sawlog.test/doubles/internal/pubsub"
	"sawlog.test/doubles/internal/rest"
)

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address to listen on")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	double := &pstest.NewServer().GServer
	server := grpc.NewServer()
	pubsubpb.RegisterPublisherServer(server, double)
	pubsubpb.RegisterSubscriberServer(server, double)
	fmt.Println(listener.Addr())
	log.Fatal(rest.Serve(listener, server, pubsub.Admin(double, double), nil))
}
