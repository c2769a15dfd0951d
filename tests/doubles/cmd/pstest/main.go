// Command pstest runs Google's own in-memory Pub/Sub, with the administrative calls in JSON beside it, and prints its address.
//
// It is the second opinion on what our double (cmd/pubsub) does: slow, at most 4 MiB a message, without snapshots and pushes.
package main

import (
	"log"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"

	"sawlog.test/doubles/internal/permissions"
	"sawlog.test/doubles/internal/pubsub"
	"sawlog.test/doubles/internal/rest"
	"sawlog.test/doubles/internal/start"
)

func main() {
	listener := start.Listen("listen")[0]
	double := &pstest.NewServer().GServer
	server := grpc.NewServer()
	pubsubpb.RegisterPublisherServer(server, double)
	pubsubpb.RegisterSubscriberServer(server, double)
	log.Fatal(rest.Serve(listener, server, pubsub.Admin(double, double, &permissions.Denied{}), nil))
}
