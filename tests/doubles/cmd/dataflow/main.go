// Command dataflow runs the in-memory double of Dataflow and prints its address.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"sawlog.test/doubles/internal/dataflow"
	"sawlog.test/doubles/internal/faults"
	"sawlog.test/doubles/internal/permissions"
	"sawlog.test/doubles/internal/start"
)

func main() {
	pace := flag.Duration("pace", 200*time.Millisecond, "how long a job is queued, drains or is cancelled")
	listener := start.Listen("listen")[0]
	plan, denied, jobs := &faults.Plan{}, &permissions.Denied{}, dataflow.New(*pace)
	routes := http.NewServeMux()
	routes.Handle(faults.Path, plan)
	routes.Handle(permissions.Path, denied)
	routes.Handle(dataflow.ControlPath, dataflow.Control(jobs))
	routes.Handle("/", dataflow.REST(jobs, plan, denied))
	log.Fatal(http.Serve(listener, routes))
}
