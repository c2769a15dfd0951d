// Package dataflow is an in-memory double of Dataflow's jobs: Flex Templates are launched, jobs are looked at, drained,
// cancelled and replaced.
//
// It has what a client can see: one active job of a name, states that advance with time, what each state allows, and the
// pipeline's options as Beam's Python SDK hands them in. It runs no pipeline and checks no graph.
package dataflow

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "cloud.google.com/go/dataflow/apiv1beta3/dataflowpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var (
	// And 1,024 characters at most.
	jobName   = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	parameter = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]*$`)
)

// job is one job with what is asked for beside it.
type job struct {
	*pb.Job
	messages []*pb.JobMessage
	metrics  []*pb.MetricUpdate
	// What the job becomes by itself, and when.
	next   pb.JobState
	nextAt time.Time
}

// Jobs is the double.
type Jobs struct {
	mutex sync.Mutex
	pace  time.Duration
	jobs  []*job
	// Error of the next job's check, which makes it fail.
	failing string
}

// New makes a double without jobs.
func New(pace time.Duration) *Jobs {
	return &Jobs{pace: pace}
}

// terminal has the states that a job never leaves.
var terminal = []pb.JobState{
	pb.JobState_JOB_STATE_DONE, pb.JobState_JOB_STATE_FAILED, pb.JobState_JOB_STATE_CANCELLED,
	pb.JobState_JOB_STATE_UPDATED, pb.JobState_JOB_STATE_DRAINED,
}

func (j *job) isActive() bool {
	return !slices.Contains(terminal, j.CurrentState)
}

func (j *job) enter(state pb.JobState, at time.Time) {
	j.CurrentState, j.CurrentStateTime = state, timestamppb.New(at)
	j.next = pb.JobState_JOB_STATE_UNKNOWN
}

func (j *job) say(importance pb.JobMessageImportance, text string, at time.Time) {
	j.messages = append(j.messages, &pb.JobMessage{
		Id: fmt.Sprintf("%s-%03d", j.Id, len(j.messages)), Time: timestamppb.New(at), MessageText: text, MessageImportance: importance,
	})
}

func (j *job) later(state pb.JobState, at time.Time) {
	j.next, j.nextAt = state, at
}

// advance lets time pass for all jobs.
func (s *Jobs) advance() {
	now := time.Now()
	for _, one := range s.jobs {
		if one.next == pb.JobState_JOB_STATE_UNKNOWN || now.Before(one.nextAt) {
			continue
		}
		if one.next == pb.JobState_JOB_STATE_RUNNING {
			one.describe()
			if old := s.find(one.ReplaceJobId); old != nil {
				old.enter(pb.JobState_JOB_STATE_UPDATED, now)
				old.ReplacedByJobId = one.Id
			}
		}
		one.enter(one.next, now)
	}
}

// describe fills in what is known of a job once it runs.
func (j *job) describe() {
	agent, _ := structpb.NewStruct(map[string]any{"name": "Apache Beam Python 3.11 SDK", "version": "2.77.0"})
	j.Environment.UserAgent = agent
	j.JobMetadata = &pb.JobMetadata{SdkVersion: &pb.SdkVersion{
		Version: "2.77.0", VersionDisplayName: "Apache Beam Python 3.11 SDK", SdkSupportStatus: pb.SdkVersion_SUPPORTED,
	}}
}

func (s *Jobs) find(id string) *job {
	at := slices.IndexFunc(s.jobs, func(one *job) bool { return one.Id == id })
	if id == "" || at < 0 {
		return nil
	}
	return s.jobs[at]
}

// active is the newest active job of a name.
func (s *Jobs) active(project, location, name string) *job {
	for _, one := range slices.Backward(s.jobs) {
		if one.ProjectId == project && one.Location == location && one.Name == name && one.isActive() {
			return one
		}
	}
	return nil
}

// Launch starts a job, or one in the place of another.
func (s *Jobs) Launch(request *pb.LaunchFlexTemplateRequest) (*pb.LaunchFlexTemplateResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.advance()
	wanted := request.LaunchParameter
	if err := check(wanted); err != nil {
		return nil, err
	}
	old := s.active(request.ProjectId, request.Location, wanted.JobName)
	switch {
	case wanted.Update && old == nil:
		return nil, status.Errorf(codes.NotFound, "(%s): There is no active job named %s to update.", s.tag(), wanted.JobName)
	case wanted.Update && old.CurrentState != pb.JobState_JOB_STATE_RUNNING && old.CurrentState != pb.JobState_JOB_STATE_DRAINING:
		return nil, status.Errorf(codes.FailedPrecondition, "(%s): Job %s is not running and cannot be updated.", s.tag(), old.Id)
	case !wanted.Update && old != nil:
		return nil, status.Errorf(codes.AlreadyExists,
			"(%s): There is already an active job named %s. If you want to submit a second job, try again by setting a different name.",
			s.tag(), wanted.JobName)
	}
	if request.ValidateOnly {
		return &pb.LaunchFlexTemplateResponse{}, nil
	}
	now := time.Now()
	made := &job{Job: &pb.Job{
		Id:        fmt.Sprintf("%s-%d", now.UTC().Format("2006-01-02_15_04_05"), 1_000_000+len(s.jobs)),
		ProjectId: request.ProjectId, Location: request.Location, Name: wanted.JobName, Type: pb.JobType_JOB_TYPE_STREAMING,
		CreateTime: timestamppb.New(now), StartTime: timestamppb.New(now), Labels: wanted.Environment.GetAdditionalUserLabels(),
		Environment:          environment(wanted),
		PipelineDescription:  &pb.PipelineDescription{OriginalPipelineTransform: transforms(wanted.Parameters)},
		TransformNameMapping: wanted.TransformNameMappings,
	}}
	if wanted.Update {
		made.ReplaceJobId = old.Id
	}
	made.enter(pb.JobState_JOB_STATE_QUEUED, now)
	made.later(pb.JobState_JOB_STATE_RUNNING, now.Add(s.pace))
	if s.failing != "" {
		made.say(pb.JobMessageImportance_JOB_MESSAGE_ERROR, s.failing, now)
		made.later(pb.JobState_JOB_STATE_FAILED, now.Add(s.pace))
		s.failing = ""
	}
	s.jobs = append(s.jobs, made)
	return &pb.LaunchFlexTemplateResponse{Job: summary(made)}, nil
}

func (s *Jobs) tag() string {
	return strconv.FormatInt(time.Now().UnixNano(), 16)
}

func check(wanted *pb.LaunchFlexTemplateParameter) error {
	switch {
	case wanted == nil:
		return status.Error(codes.InvalidArgument, "The launch parameter is missing.")
	case !jobName.MatchString(wanted.JobName) || len(wanted.JobName) > 1_024:
		return status.Errorf(codes.InvalidArgument, "JobName invalid; the name must consist of only the characters [-a-z0-9], starting with a letter and ending with a letter or number: %q", wanted.JobName)
	case !strings.HasPrefix(wanted.GetContainerSpecGcsPath(), "gs://"):
		return status.Errorf(codes.InvalidArgument, "The template parameters are invalid. Details: container_spec_gcs_path: %q is no path in Cloud Storage", wanted.GetContainerSpecGcsPath())
	case len(wanted.TransformNameMappings) > 0 && !wanted.Update:
		return status.Error(codes.InvalidArgument, "Transform name mappings are only for updates.")
	}
	for name := range wanted.Parameters {
		if !parameter.MatchString(name) {
			return status.Errorf(codes.InvalidArgument, "The template parameters are invalid. Details: %s: Unrecognized parameter", name)
		}
	}
	return nil
}

// Get gives a job as far as a view shows it.
func (s *Jobs) Get(request *pb.GetJobRequest) (*pb.Job, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one, err := s.known(request.ProjectId, request.Location, request.JobId)
	if err != nil {
		return nil, err
	}
	switch request.View {
	case pb.JobView_JOB_VIEW_ALL, pb.JobView_JOB_VIEW_DESCRIPTION:
		return proto.Clone(one.Job).(*pb.Job), nil
	default:
		return summary(one), nil
	}
}

func (s *Jobs) known(project, location, id string) (*job, error) {
	s.advance()
	one := s.find(id)
	if one == nil || one.ProjectId != project || one.Location != location {
		return nil, status.Errorf(codes.NotFound, "(%s): Information about job %s could not be found in our system. Please double check the id is correct.", s.tag(), id)
	}
	return one, nil
}

// summary is a job without its description.
func summary(one *job) *pb.Job {
	short := proto.Clone(one.Job).(*pb.Job)
	short.PipelineDescription, short.TransformNameMapping, short.Environment = nil, nil, &pb.Environment{UserAgent: one.Environment.UserAgent}
	return short
}

// List gives summaries, newest first, a page at a time.
func (s *Jobs) List(request *pb.ListJobsRequest) (*pb.ListJobsResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.advance()
	var found []*pb.Job
	for _, one := range slices.Backward(s.jobs) {
		isWanted := request.Filter == pb.ListJobsRequest_ACTIVE == one.isActive()
		if request.Filter == pb.ListJobsRequest_ALL || request.Filter == pb.ListJobsRequest_UNKNOWN {
			isWanted = true
		}
		isNamed := request.GetName() == "" || request.GetName() == one.Name
		if isWanted && isNamed && one.ProjectId == request.ProjectId && one.Location == request.Location {
			found = append(found, summary(one))
		}
	}
	page, next, err := paged(found, request.PageSize, request.PageToken)
	return &pb.ListJobsResponse{Jobs: page, NextPageToken: next}, err
}

func paged[T any](all []T, size int32, token string) (page []T, next string, err error) {
	from := 0
	if token != "" {
		if from, err = strconv.Atoi(token); err != nil || from < 0 || from > len(all) {
			return nil, "", status.Errorf(codes.InvalidArgument, "The page token %q is none.", token)
		}
	}
	page = all[from:]
	if size > 0 && int(size) < len(page) {
		page, next = page[:size], strconv.Itoa(from+int(size))
	}
	return page, next, nil
}

// Update requests a state.
func (s *Jobs) Update(request *pb.UpdateJobRequest) (*pb.Job, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one, err := s.known(request.ProjectId, request.Location, request.JobId)
	if err != nil {
		return nil, err
	}
	wanted, now := request.Job.GetRequestedState(), time.Now()
	isStopping := one.CurrentState == pb.JobState_JOB_STATE_DRAINING || one.CurrentState == pb.JobState_JOB_STATE_CANCELLING
	switch {
	case wanted != pb.JobState_JOB_STATE_DRAINED && wanted != pb.JobState_JOB_STATE_CANCELLED:
		return nil, status.Errorf(codes.InvalidArgument, "(%s): The requested state %s is not allowed.", s.tag(), wanted)
	case !one.isActive():
		return nil, status.Errorf(codes.FailedPrecondition, "(%s): Job %s is already in terminal state %s.", s.tag(), one.Id, one.CurrentState)
	case wanted == pb.JobState_JOB_STATE_DRAINED && isStopping:
		// A repeat changes nothing.
	case wanted == pb.JobState_JOB_STATE_DRAINED && one.CurrentState != pb.JobState_JOB_STATE_RUNNING:
		return nil, status.Errorf(codes.FailedPrecondition, "(%s): Job %s is in state %s and cannot be drained.", s.tag(), one.Id, one.CurrentState)
	case wanted == pb.JobState_JOB_STATE_DRAINED:
		one.enter(pb.JobState_JOB_STATE_DRAINING, now)
		one.later(pb.JobState_JOB_STATE_DRAINED, now.Add(s.pace))
	case one.CurrentState != pb.JobState_JOB_STATE_CANCELLING:
		one.enter(pb.JobState_JOB_STATE_CANCELLING, now)
		one.later(pb.JobState_JOB_STATE_CANCELLED, now.Add(s.pace))
	}
	one.RequestedState = wanted
	return summary(one), nil
}

// Messages lists what a job says from an importance on, oldest first.
func (s *Jobs) Messages(request *pb.ListJobMessagesRequest) (*pb.ListJobMessagesResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one, err := s.known(request.ProjectId, request.Location, request.JobId)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(slices.Clone(one.messages), func(message *pb.JobMessage) bool {
		isOld := request.StartTime != nil && message.Time.AsTime().Before(request.StartTime.AsTime())
		return isOld || message.MessageImportance < request.MinimumImportance
	})
	page, next, err := paged(found, request.PageSize, request.PageToken)
	return &pb.ListJobMessagesResponse{JobMessages: page, NextPageToken: next}, err
}

// Metrics gives the newest values of a job.
func (s *Jobs) Metrics(request *pb.GetJobMetricsRequest) (*pb.JobMetrics, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one, err := s.known(request.ProjectId, request.Location, request.JobId)
	if err != nil {
		return nil, err
	}
	return &pb.JobMetrics{MetricTime: timestamppb.Now(), Metrics: one.metrics}, nil
}
