package pubsub

import (
	"net/http"
	"strings"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"sawlog.test/doubles/internal/permissions"
	"sawlog.test/doubles/internal/rest"
)

// Admin answers the administrative calls in JSON by those of a gRPC server, as far as permissions are not taken away.
func Admin(publisher pubsubpb.PublisherServer, subscriber pubsubpb.SubscriberServer, denied *permissions.Denied) rest.Handler {
	return func(request *http.Request, name string, body []byte) (proto.Message, error) {
		ctx := request.Context()
		if resource, isTest := strings.CutSuffix(name, ":testIamPermissions"); isTest {
			asked := &iampb.TestIamPermissionsRequest{}
			if err := rest.Unmarshal(body, asked); err != nil {
				return nil, err
			}
			if _, err := subscriber.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: resource}); err != nil {
				return nil, err
			}
			return &iampb.TestIamPermissionsResponse{Permissions: denied.Held(asked.Permissions)}, nil
		}
		switch request.Method + " " + Kind(name) {
		case "PUT topics":
			topic := &pubsubpb.Topic{}
			if err := rest.Unmarshal(body, topic); err != nil {
				return nil, err
			}
			topic.Name = name
			return publisher.CreateTopic(ctx, topic)
		case "GET topics":
			return publisher.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: name})
		case "DELETE topics":
			return publisher.DeleteTopic(ctx, &pubsubpb.DeleteTopicRequest{Topic: name})
		case "PUT subscriptions":
			subscription := &pubsubpb.Subscription{}
			if err := rest.Unmarshal(body, subscription); err != nil {
				return nil, err
			}
			subscription.Name = name
			return subscriber.CreateSubscription(ctx, subscription)
		case "GET subscriptions":
			if err := denied.Check("pubsub.subscriptions.get"); err != nil {
				return nil, err
			}
			return subscriber.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: name})
		case "DELETE subscriptions":
			return subscriber.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: name})
		case "POST subscriptions":
			if subscription, isPull := strings.CutSuffix(name, ":pull"); isPull {
				pull := &pubsubpb.PullRequest{}
				if err := rest.Unmarshal(body, pull); err != nil {
					return nil, err
				}
				pull.Subscription = subscription
				return subscriber.Pull(ctx, pull)
			}
			subscription, isSeek := strings.CutSuffix(name, ":seek")
			if !isSeek {
				break
			}
			seek := &pubsubpb.SeekRequest{}
			if err := rest.Unmarshal(body, seek); err != nil {
				return nil, err
			}
			seek.Subscription = subscription
			return subscriber.Seek(ctx, seek)
		case "PUT snapshots":
			snapshot := &pubsubpb.CreateSnapshotRequest{}
			if err := rest.Unmarshal(body, snapshot); err != nil {
				return nil, err
			}
			snapshot.Name = name
			return subscriber.CreateSnapshot(ctx, snapshot)
		case "GET snapshots":
			return subscriber.GetSnapshot(ctx, &pubsubpb.GetSnapshotRequest{Snapshot: name})
		case "DELETE snapshots":
			return subscriber.DeleteSnapshot(ctx, &pubsubpb.DeleteSnapshotRequest{Snapshot: name})
		}
		return nil, status.Errorf(codes.Unimplemented, "%s %s is no call of this double", request.Method, name)
	}
}
