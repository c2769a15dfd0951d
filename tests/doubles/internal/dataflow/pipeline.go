package dataflow

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	pb "cloud.google.com/go/dataflow/apiv1beta3/dataflowpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// environment is what Beam's Python SDK hands in with a pipeline that was started with these parameters: its options under
// their names in Python, with their types, defaults included.
func environment(wanted *pb.LaunchFlexTemplateParameter) *pb.Environment {
	options := map[string]any{
		"job_name": wanted.JobName, "streaming": true, "shards": 32, "early": 60, "without_dedup": false, "subscription": []any{},
	}
	for name, value := range wanted.Parameters {
		options[name] = typed(name, value)
	}
	given, _ := structpb.NewStruct(map[string]any{"options": options, "display_data": []any{}})
	return &pb.Environment{SdkPipelineOptions: given}
}

func typed(name, value string) any {
	if name == "subscription" {
		names := []any{}
		for one := range strings.SplitSeq(value, ",") {
			names = append(names, one)
		}
		return names
	}
	if number, err := strconv.ParseInt(value, 10, 64); err == nil {
		return number
	}
	if is, err := strconv.ParseBool(value); err == nil {
		return is
	}
	return value
}

// transforms are the steps that the pipeline of python/sawlog/beam has for these parameters, one for each outermost step.
func transforms(parameters map[string]string) []*pb.TransformSummary {
	names := []string{"Transform/ParDo(Transform)", "Rollups/Cells", "Sessions/Chains"}
	for one := range strings.SplitSeq(parameters["subscription"], ",") {
		names = append(names, "From "+one+"/Read")
	}
	sinks := map[string]string{
		"lake": "Keep raw/Write", "dataset": "To BigQuery/Append", "bigtable": "To Bigtable/Mutate", "dead_letters": "Dead letters to files/Write",
	}
	for _, option := range slices.Sorted(maps.Keys(sinks)) {
		if parameters[option] != "" {
			names = append(names, sinks[option])
		}
	}
	found := []*pb.TransformSummary{}
	for at, name := range names {
		found = append(found, &pb.TransformSummary{Id: "s" + strconv.Itoa(at), Name: name, Kind: pb.KindType_PAR_DO_KIND})
	}
	return found
}
