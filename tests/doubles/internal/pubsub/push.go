package pubsub

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

const (
	// Pushes of a subscription at the same time.
	pushesMax = 50
	// How long a message waits after a push that failed. The service doubles it up to ten minutes.
	pushBackoff = 100 * time.Millisecond
)

type pushedMessage struct {
	Data        []byte            `json:"data,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	MessageID   string            `json:"messageId"`
	PublishTime string            `json:"publishTime"`
	OrderingKey string            `json:"orderingKey,omitempty"`
	// The service sends these two under both names.
	MessageIDOld   string `json:"message_id"`
	PublishTimeOld string `json:"publish_time"`
}

type pushedBody struct {
	Message         pushedMessage `json:"message"`
	Subscription    string        `json:"subscription"`
	DeliveryAttempt int32         `json:"deliveryAttempt,omitempty"`
}

// push sends the messages of a subscription to its endpoint until it is deleted.
func (s *Server) push(name string, found *subscription) {
	client := &http.Client{Timeout: time.Duration(found.spec.AckDeadlineSeconds) * time.Second}
	places := make(chan struct{}, pushesMax)
	for {
		s.mutex.Lock()
		if s.subscriptions[name] != found {
			s.mutex.Unlock()
			return
		}
		changed := found.changed
		free := pushesMax - len(places)
		taken := s.take(found, free, batchBytes, time.Duration(found.spec.AckDeadlineSeconds)*time.Second)
		s.mutex.Unlock()
		for _, one := range taken {
			places <- struct{}{}
			go func() {
				if s.pushOne(client, found.spec, one) {
					_ = s.acknowledge(name, []string{one.AckId})
				} else {
					time.Sleep(pushBackoff)
					_ = s.modify(name, []string{one.AckId}, 0)
				}
				<-places
				s.mutex.Lock()
				found.wake()
				s.mutex.Unlock()
			}()
		}
		if len(taken) == 0 {
			<-changed
		}
	}
}

// pushOne sends one message, and says whether it was taken: by one of the statuses that Google names.
func (s *Server) pushOne(client *http.Client, spec *pubsubpb.Subscription, received *pubsubpb.ReceivedMessage) bool {
	message := received.Message
	published := message.PublishTime.AsTime().Format(time.RFC3339Nano)
	body, err := json.Marshal(pushedBody{
		Message: pushedMessage{
			Data: message.Data, Attributes: message.Attributes, MessageID: message.MessageId, PublishTime: published,
			OrderingKey: message.OrderingKey, MessageIDOld: message.MessageId, PublishTimeOld: published,
		},
		Subscription: spec.Name, DeliveryAttempt: received.DeliveryAttempt,
	})
	if err != nil {
		return false
	}
	request, err := http.NewRequest(http.MethodPost, spec.PushConfig.PushEndpoint, bytes.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("content-type", "application/json")
	if oidc := spec.PushConfig.GetOidcToken(); oidc != nil {
		audience := oidc.Audience
		if audience == "" {
			audience = spec.PushConfig.PushEndpoint
		}
		token, err := s.Tokens.sign(oidc.ServiceAccountEmail, audience, s.now())
		if err != nil {
			return false
		}
		request.Header.Set("authorization", "Bearer "+token)
	}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	switch answer.StatusCode {
	case 102, 200, 201, 202, 204:
		return true
	}
	return false
}
