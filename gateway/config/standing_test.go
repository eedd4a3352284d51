package config

import (
	"testing"
	"time"
)

func TestAPeerIsOnForEverUnlessItSaysOtherwise(t *testing.T) {
	tests := []struct {
		name, fields string
		off          bool
		expires      time.Time
	}{
		{"nothing", "", false, time.Time{}},
		{"on", "enabled: true", false, time.Time{}},
		{"off", "enabled: false", true, time.Time{}},
		{"a last day ends with it", "expires: 2027-01-31", false, time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)},
		{"in quotes", `expires: "2028-02-29"`, false, time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			testDir(t)
			p := load(t, minimal+"    peers: [{wwwroot: 'https://a.example', "+test.fields+"}]\n").Sites[0].Peers.Peers()[0]
			if p.Off != test.off || !p.Expires.Equal(test.expires) {
				t.Errorf("off %v, expires %v", p.Off, p.Expires)
			}
		})
	}
}
