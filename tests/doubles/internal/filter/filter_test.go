package filter

import "testing"

func TestFiltersPassWhatTheySay(t *testing.T) {
	entry := map[string]any{
		"logName":   "projects/p/logs/app",
		"timestamp": "2026-11-20T10:00:00.5Z",
		"labels":    map[string]any{"a.b": "x", "env": "prod"},
		"jsonPayload": map[string]any{
			"message": "Paid order 7", "n": 7.0,
		},
	}
	for text, passes := range map[string]bool{
		``:                                             true,
		`logName="projects/p/logs/app"`:                true,
		`logName="projects/p/logs/other"`:              false,
		`timestamp>="2026-11-20T10:00:00.5Z"`:          true,
		`timestamp>"2026-11-20T10:00:00.5Z"`:           false,
		`timestamp<"2026-11-20T11:00:00+01:00"`:        false,
		`timestamp>="2026-11-20T10:00:00.500000+0000"`: true,
		`jsonPayload.n>=7 AND jsonPayload.n<8`:         true,
		`NOT labels.env=prod`:                          false,
		`labels."a.b"=x`:                               true,
		`labels.zone:*`:                                false,
		`labels.env:*`:                                 true,
		`labels.env=("dev" OR "prod")`:                 true,
		`jsonPayload.message:"order"`:                  true,
		`"paid ORDER"`:                                 true,
		`jsonPayload.message=~"order [0-9]$"`:          true,
		// OR binds before AND.
		`labels.env=prod OR labels.env=dev AND labels.env=dev`:   false,
		`labels.env=prod OR (labels.env=dev AND labels.env=dev)`: true,
		`labels.env=prod labels.env=dev`:                         false,
		`-labels.env=dev`:                                        true,
	} {
		found, err := Parse(text, map[string]Compare{"timestamp": Time})
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if found(entry) != passes {
			t.Errorf("%s passes %v", text, !passes)
		}
	}
	for _, text := range []string{`a=`, `(a=b`, `a="b`, `a=(b`, `a=b)`, `NOT`} {
		if _, err := Parse(text, nil); err == nil {
			t.Errorf("%s is no filter", text)
		}
	}
}
