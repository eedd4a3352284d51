package web_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/web"
)

func TestLogoutsAreLoggedAndCounted(t *testing.T) {
	home, err := gateway.ParseWwwroot("https://home.test")
	if err != nil {
		t.Fatal(err)
	}
	forum, err := gateway.ParseWwwroot("https://forum.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		logout      mnet.Logout
		times       int
		lines       int
		log, metric string
	}{
		"a peer": {
			mnet.Logout{Site: home, At: forum, Username: "ada", Cause: mnet.CauseHome, Outcome: mnet.OutcomeEnded, Tries: 2, Took: time.Second}, 2, 2,
			"level=INFO msg=logout site=https://home.test at=https://forum.test user=ada cause=home outcome=ended tries=2 took=1s",
			`jumpgate_logouts_total{cause="home",outcome="ended",peer="https://forum.test",site="https://home.test"} 2`,
		},
		"a dead peer": {
			mnet.Logout{Site: home, At: forum, Username: "ada", Cause: mnet.CausePeer, Outcome: mnet.OutcomeFailed, Tries: 5, Err: errors.New("refused")}, 1, 1,
			"level=WARN msg=logout site=https://home.test at=https://forum.test user=ada cause=peer outcome=failed tries=5 took=0s error=refused",
			`jumpgate_logouts_total{cause="peer",outcome="failed",peer="https://forum.test",site="https://home.test"} 1`,
		},
		"the home": {
			mnet.Logout{Site: home, At: home, Username: "ada", Cause: mnet.CausePeer, Outcome: mnet.OutcomeEnded, Tries: 1}, 1, 1,
			"level=INFO msg=logout site=https://home.test at=https://home.test user=ada cause=peer outcome=ended tries=1 took=0s",
			`jumpgate_logouts_total{cause="peer",outcome="ended",peer="",site="https://home.test"} 1`,
		},
		"one that is no peer any more": {
			mnet.Logout{Site: home, At: forum, Username: "ada", Cause: mnet.CauseHome, Outcome: mnet.OutcomeNotSubscribed}, 1, 1,
			"level=WARN msg=logout site=https://home.test at=https://forum.test user=ada cause=home outcome=not-subscribed",
			`jumpgate_logouts_total{cause="home",outcome="not-subscribed",peer="",site="https://home.test"} 1`,
		},
		"while Redis is down": {
			mnet.Logout{Site: home, Cause: mnet.CauseHome, Outcome: mnet.OutcomeUnknown, Err: errors.New("down")}, 9, 1,
			"level=WARN msg=logout site=https://home.test cause=home outcome=unknown error=down",
			`jumpgate_logouts_total{cause="home",outcome="unknown",peer="",site="https://home.test"} 9`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			metrics := web.NewMetrics(func() bool { return true })
			observe := web.ObserveLogouts(slog.New(slog.NewTextHandler(&log, nil)), metrics, nil)
			for range test.times {
				observe(test.logout)
			}
			if got := log.String(); strings.Count(got, "\n") != test.lines || !strings.Contains(got, test.log+"\n") {
				t.Errorf("logged\n%swant\n%s", got, test.log)
			}
			w := httptest.NewRecorder()
			web.NewAdmin(metrics, func() string { return "" }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			body, err := io.ReadAll(w.Body)
			if err != nil || !strings.Contains(string(body), test.metric+"\n") {
				t.Errorf("no %s, %v", test.metric, err)
			}
		})
	}
}
