package dataflow

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	pb "cloud.google.com/go/dataflow/apiv1beta3/dataflowpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"sawlog.test/doubles/internal/faults"
	"sawlog.test/doubles/internal/permissions"
	"sawlog.test/doubles/internal/rest"
)

// ControlPath is where tests set what no client can.
const ControlPath = "/_dataflow"

const location = "/v1b3/projects/{project}/locations/{location}"

// route answers one call: its permission and its name among the faults.
type route struct {
	pattern, permission, call string
	answer                    func(*http.Request, []byte) (proto.Message, error)
}

// REST answers the calls of the API's JSON form, as far as permissions are not taken away.
func REST(jobs *Jobs, plan *faults.Plan, denied *permissions.Denied) http.Handler {
	routes := http.NewServeMux()
	for _, one := range []route{
		{"POST " + location + "/flexTemplates:launch", "dataflow.jobs.create", "LaunchFlexTemplate", jobs.launch},
		{"GET " + location + "/jobs", "dataflow.jobs.list", "ListJobs", jobs.list},
		{"GET " + location + "/jobs/{job}", "dataflow.jobs.get", "GetJob", jobs.get},
		{"PUT " + location + "/jobs/{job}", "dataflow.jobs.updateContents", "UpdateJob", jobs.update},
		{"GET " + location + "/jobs/{job}/messages", "dataflow.messages.list", "ListJobMessages", jobs.listMessages},
		{"GET " + location + "/jobs/{job}/metrics", "dataflow.metrics.get", "GetJobMetrics", jobs.getMetrics},
	} {
		routes.HandleFunc(one.pattern, func(writer http.ResponseWriter, request *http.Request) {
			body, err := io.ReadAll(request.Body)
			if err != nil {
				return // the client has gone
			}
			if err := denied.Check(one.permission); err != nil {
				reply(writer, request, nil, err)
				return
			}
			answer, err := faults.Do(plan, request.Context(), one.call, func() (proto.Message, error) { return one.answer(request, body) })
			reply(writer, request, answer, err)
		})
	}
	routes.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		reply(writer, request, nil, status.Errorf(codes.Unimplemented, "%s %s is no call of this double", request.Method, request.URL.Path))
	})
	return routes
}

func reply(writer http.ResponseWriter, request *http.Request, answer proto.Message, err error) {
	if errors.Is(err, faults.ErrReset) {
		panic(http.ErrAbortHandler) // cuts the connection
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	rest.Reply(writer, answer, err, protojson.MarshalOptions{UseEnumNumbers: request.URL.Query().Get("$alt") == "json;enum-encoding=int"})
}

// read reads a body as the service does, which refuses fields that it does not know.
func read(body []byte, message proto.Message) error {
	if err := protojson.Unmarshal(body, message); err != nil {
		return status.Errorf(codes.InvalidArgument, "Invalid JSON payload received. %v", err)
	}
	return nil
}

// query reads parameters of a URL into fields of a message by their names in JSON.
func query(request *http.Request, message proto.Message, names ...string) error {
	fields := map[string]any{}
	for _, name := range names {
		if value := request.URL.Query().Get(name); value != "" {
			fields[name] = enumOr(value)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return read(text, message)
}

// enumOr gives a number as such: Google's clients send those of enums.
func enumOr(value string) any {
	var number json.Number
	if json.Unmarshal([]byte(value), &number) == nil && number.String() == value {
		return number
	}
	return value
}

func (s *Jobs) launch(request *http.Request, body []byte) (proto.Message, error) {
	wanted := &pb.LaunchFlexTemplateRequest{}
	if err := read(body, wanted); err != nil {
		return nil, err
	}
	wanted.ProjectId, wanted.Location = request.PathValue("project"), request.PathValue("location")
	return s.Launch(wanted)
}

func (s *Jobs) list(request *http.Request, _ []byte) (proto.Message, error) {
	wanted := &pb.ListJobsRequest{}
	if err := query(request, wanted, "filter", "pageSize"); err != nil {
		return nil, err
	}
	// These are texts, of digits too.
	wanted.PageToken = request.URL.Query().Get("pageToken")
	if name := request.URL.Query().Get("name"); name != "" {
		wanted.Name = &name
	}
	wanted.ProjectId, wanted.Location = request.PathValue("project"), request.PathValue("location")
	return s.List(wanted)
}

func (s *Jobs) get(request *http.Request, _ []byte) (proto.Message, error) {
	wanted := &pb.GetJobRequest{}
	if err := query(request, wanted, "view"); err != nil {
		return nil, err
	}
	wanted.ProjectId, wanted.Location, wanted.JobId = request.PathValue("project"), request.PathValue("location"), request.PathValue("job")
	return s.Get(wanted)
}

func (s *Jobs) update(request *http.Request, body []byte) (proto.Message, error) {
	wanted := &pb.UpdateJobRequest{Job: &pb.Job{}}
	if err := read(body, wanted.Job); err != nil {
		return nil, err
	}
	wanted.ProjectId, wanted.Location, wanted.JobId = request.PathValue("project"), request.PathValue("location"), request.PathValue("job")
	return s.Update(wanted)
}

func (s *Jobs) listMessages(request *http.Request, _ []byte) (proto.Message, error) {
	wanted := &pb.ListJobMessagesRequest{}
	if err := query(request, wanted, "minimumImportance", "pageSize", "startTime"); err != nil {
		return nil, err
	}
	wanted.PageToken = request.URL.Query().Get("pageToken")
	wanted.ProjectId, wanted.Location, wanted.JobId = request.PathValue("project"), request.PathValue("location"), request.PathValue("job")
	return s.Messages(wanted)
}

func (s *Jobs) getMetrics(request *http.Request, _ []byte) (proto.Message, error) {
	return s.Metrics(&pb.GetJobMetricsRequest{
		ProjectId: request.PathValue("project"), Location: request.PathValue("location"), JobId: request.PathValue("job"),
	})
}

// Control takes the wishes of tests: {"failing": "why the next job fails"}, or of a job that is there
// {"job": ID, "error": "what it says", "metrics": {"metrics": […]}}, metrics as the service's answer has them.
func Control(jobs *Jobs) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		var wish struct {
			Failing, Job, Error string
			Metrics             json.RawMessage
		}
		if err := json.NewDecoder(request.Body).Decode(&wish); err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		metrics := &pb.JobMetrics{}
		if wish.Metrics != nil {
			if err := protojson.Unmarshal(wish.Metrics, metrics); err != nil {
				http.Error(writer, err.Error(), http.StatusBadRequest)
				return
			}
		}
		jobs.mutex.Lock()
		defer jobs.mutex.Unlock()
		if wish.Failing != "" {
			jobs.failing = wish.Failing
			return
		}
		one := jobs.find(wish.Job)
		if one == nil {
			http.Error(writer, "there is no such job", http.StatusNotFound)
			return
		}
		if wish.Error != "" {
			one.say(pb.JobMessageImportance_JOB_MESSAGE_ERROR, wish.Error, time.Now())
		}
		one.metrics = append(one.metrics, metrics.Metrics...)
	})
}
