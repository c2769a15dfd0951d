// Command pubsub runs the in-memory double of Cloud Pub/Sub and prints its address.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
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
	double := pubsub.New()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(32 << 20))
	pubsubpb.RegisterPublisherServer(server, double)
	pubsubpb.RegisterSubscriberServer(server, double)
	fmt.Println(listener.Addr())
	log.Fatal(rest.Serve(listener, server, pubsub.Admin(double, double), nil))
}
