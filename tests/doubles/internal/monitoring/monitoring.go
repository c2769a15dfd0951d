// Package monitoring is an in-memory double of Cloud Monitoring's metrics: series are written and listed.
//
// It has what a writer can see: series by metric and resource labels, points that must be newer than those before them,
// limits of a request. It has no aggregation, no retention and no predefined metrics.
package monitoring

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"cloud.google.com/go/monitoring/apiv3/v2/monitoringpb"
	"google.golang.org/genproto/googleapis/api/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"sawlog.test/doubles/internal/faults"
	"sawlog.test/doubles/internal/filter"
	"sawlog.test/doubles/internal/rest"
)

// A request holds at most so many series.
const seriesMax = 200

// Server is the double.
type Server struct {
	monitoringpb.UnimplementedMetricServiceServer

	mutex       sync.Mutex
	descriptors map[string]*metric.MetricDescriptor
	// By project and key, points newest first as the service lists them.
	series map[string]*monitoringpb.TimeSeries
}

// New makes a double without series.
func New() *Server {
	return &Server{descriptors: map[string]*metric.MetricDescriptor{}, series: map[string]*monitoringpb.TimeSeries{}}
}

func keyOf(project string, one *monitoringpb.TimeSeries) string {
	// The encoder of maps sorts their keys.
	text, _ := json.Marshal([]any{
		project, one.GetMetric().GetType(), one.GetMetric().GetLabels(), one.GetResource().GetType(), one.GetResource().GetLabels(),
	})
	return string(text)
}

// CreateTimeSeries adds points to series.
func (s *Server) CreateTimeSeries(_ context.Context, request *monitoringpb.CreateTimeSeriesRequest) (*emptypb.Empty, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(request.TimeSeries) == 0 || len(request.TimeSeries) > seriesMax {
		return nil, status.Errorf(codes.InvalidArgument, "A request has 1 to %d series.", seriesMax)
	}
	written := map[string]bool{}
	for at, one := range request.TimeSeries {
		key := keyOf(request.Name, one)
		if err := s.check(key, one); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "Field timeSeries[%d]: %v", at, err)
		}
		if written[key] {
			return nil, status.Errorf(codes.InvalidArgument, "Field timeSeries[%d]: the series is there twice.", at)
		}
		written[key] = true
	}
	for _, one := range request.TimeSeries {
		key := keyOf(request.Name, one)
		if kept := s.series[key]; kept != nil {
			kept.Points = append(slices.Clone(one.Points), kept.Points...)
		} else {
			s.series[key] = proto.Clone(one).(*monitoringpb.TimeSeries)
		}
	}
	return &emptypb.Empty{}, nil
}

func (s *Server) check(key string, one *monitoringpb.TimeSeries) error {
	switch {
	case one.GetMetric().GetType() == "":
		return fmt.Errorf("the metric has no type")
	case one.GetResource().GetType() == "":
		return fmt.Errorf("there is no monitored resource")
	case len(one.Points) != 1:
		return fmt.Errorf("a series takes one point at a time, not %d", len(one.Points))
	case one.Points[0].GetInterval().GetEndTime() == nil:
		return fmt.Errorf("the point has no end time")
	}
	kept := s.series[key]
	if kept != nil && !one.Points[0].Interval.EndTime.AsTime().After(kept.Points[0].Interval.EndTime.AsTime()) {
		return fmt.Errorf("points must be written in order; one as new is there")
	}
	return nil
}

// ListTimeSeries lists the series that pass a filter, each with its points of an interval.
func (s *Server) ListTimeSeries(_ context.Context, request *monitoringpb.ListTimeSeriesRequest) (*monitoringpb.ListTimeSeriesResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if request.GetInterval().GetEndTime() == nil {
		return nil, status.Error(codes.InvalidArgument, "A query has an interval.")
	}
	wanted, err := filter.Parse(request.Filter, nil)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	answer := &monitoringpb.ListTimeSeriesResponse{}
	for _, key := range slices.Sorted(keysOf(s.series, request.Name)) {
		one := proto.Clone(s.series[key]).(*monitoringpb.TimeSeries)
		var fields map[string]any
		text, err := protojson.Marshal(one)
		if err == nil {
			err = json.Unmarshal(text, &fields)
		}
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if !wanted(fields) {
			continue
		}
		one.Points = slices.DeleteFunc(one.Points, func(point *monitoringpb.Point) bool {
			end := point.Interval.EndTime.AsTime()
			return end.After(request.Interval.EndTime.AsTime()) || !end.After(request.Interval.StartTime.AsTime())
		})
		if len(one.Points) > 0 {
			answer.TimeSeries = append(answer.TimeSeries, one)
		}
	}
	return answer, nil
}

func keysOf(series map[string]*monitoringpb.TimeSeries, project string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range series {
			if strings.HasPrefix(key, `["`+project+`",`) && !yield(key) {
				return
			}
		}
	}
}

// CreateMetricDescriptor makes a metric known; a repeat changes it.
func (s *Server) CreateMetricDescriptor(_ context.Context, request *monitoringpb.CreateMetricDescriptorRequest) (*metric.MetricDescriptor, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := request.MetricDescriptor
	if !strings.Contains(found.GetType(), "/") {
		return nil, status.Errorf(codes.InvalidArgument, "The type %q is none.", found.GetType())
	}
	found.Name = cmp.Or(found.Name, request.Name+"/metricDescriptors/"+found.Type)
	s.descriptors[found.Name] = found
	return found, nil
}

// ListMetricDescriptors lists the metrics of a project.
func (s *Server) ListMetricDescriptors(_ context.Context, request *monitoringpb.ListMetricDescriptorsRequest) (*monitoringpb.ListMetricDescriptorsResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	answer := &monitoringpb.ListMetricDescriptorsResponse{}
	for name, one := range s.descriptors {
		if strings.HasPrefix(name, request.Name+"/") {
			answer.MetricDescriptors = append(answer.MetricDescriptors, one)
		}
	}
	slices.SortFunc(answer.MetricDescriptors, func(a, b *metric.MetricDescriptor) int { return strings.Compare(a.Name, b.Name) })
	return answer, nil
}

// REST answers the calls that Google's Rust client makes in JSON; ok is false for those of another service.
func REST(server *Server, plan *faults.Plan, request *http.Request, name string, body []byte) (answer proto.Message, err error, ok bool) {
	ctx := request.Context()
	parts := strings.Split(name, "/")
	if len(parts) != 3 {
		return nil, nil, false
	}
	project := strings.Join(parts[:2], "/")
	switch request.Method + " " + parts[2] {
	case "POST timeSeries":
		wanted := &monitoringpb.CreateTimeSeriesRequest{}
		err = rest.Unmarshal(body, wanted)
		if err == nil {
			wanted.Name = project
			answer, err = faults.Do(plan, ctx, "CreateTimeSeries", func() (proto.Message, error) { return server.CreateTimeSeries(ctx, wanted) })
		}
		return answer, err, true
	case "GET timeSeries":
		wanted := &monitoringpb.ListTimeSeriesRequest{}
		query := request.URL.Query()
		text, _ := json.Marshal(map[string]any{
			"name": project, "filter": query.Get("filter"),
			"interval": map[string]string{"startTime": query.Get("interval.startTime"), "endTime": query.Get("interval.endTime")},
		})
		err = rest.Unmarshal(text, wanted)
		if err == nil {
			answer, err = faults.Do(plan, ctx, "ListTimeSeries", func() (proto.Message, error) { return server.ListTimeSeries(ctx, wanted) })
		}
		return answer, err, true
	case "POST metricDescriptors":
		wanted := &metric.MetricDescriptor{}
		err = rest.Unmarshal(body, wanted)
		if err == nil {
			create := &monitoringpb.CreateMetricDescriptorRequest{Name: project, MetricDescriptor: wanted}
			answer, err = faults.Do(plan, ctx, "CreateMetricDescriptor", func() (proto.Message, error) { return server.CreateMetricDescriptor(ctx, create) })
		}
		return answer, err, true
	}
	return nil, nil, false
}
