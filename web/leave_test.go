package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/sp"
	"jumpgate/web"
)

// visiting is a forum where ada of https://sp.test is logged in, who logs out.
func visiting(t *testing.T, withBounces bool) (*guarded, func() *http.Response) {
	g, _ := newByHeader(t)
	g.site.Visits.Call = func(context.Context, *gateway.Peer, string, ...mnet.Value) (mnet.Value, error) { return "", nil }
	if withBounces {
		g.site.Bounces = &sp.Bounces{Homes: g.site.Homes}
	}
	if w := g.do("GET", landHere, ""); w.Code != 303 {
		t.Fatalf("the landing is answered with %d", w.Code)
	}
	g.moodle = func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Set-Cookie"] = []string{"MoodleSession=" + adas + "; path=/", "jumpgate-home-x=evil"}
		w.Header().Set("Location", "https://home.test/")
		w.WriteHeader(303)
	}
	return g, func() *http.Response {
		return g.as(bobs, "POST", "https://home.test/login/logout.php", "sesskey=x", "Sec-Fetch-Site", "same-origin").Result()
	}
}

func TestWhoLogsOutIsLedHome(t *testing.T) {
	for _, bounces := range []bool{false, true} {
		g, logout := visiting(t, bounces)
		res := logout()
		cookies := strings.Join(res.Header["Set-Cookie"], "\n")
		if res.StatusCode != 303 || res.Header.Get("Location") != "https://sp.test/" || res.Header.Get("Cache-Control") != "no-store" ||
			!strings.Contains(cookies, "MoodleSession="+adas) || strings.Contains(cookies, "evil") || strings.Contains(cookies, "jumpgate-bounce-") != bounces {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		if !strings.HasPrefix(g.seen, "POST /login/logout.php ") || !strings.HasSuffix(g.seen, ` "sesskey=x"`) {
			t.Errorf("Moodle saw %s", g.seen)
		}
		if g.site.Visits.Children.Wait(); logout().Header.Get("Location") != "https://home.test/" {
			t.Error("a session that is over counts twice")
		}
	}
}

// TestNobodyWhoLogsOutIsLedAstray has the home be one no more, just now.
func TestNobodyWhoLogsOutIsLedAstray(t *testing.T) {
	g, logout := visiting(t, false)
	g.site.Visits.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	g.site.Peers.Peers()[0].Expires = time.Now().Add(-time.Minute)
	if res := logout(); res.StatusCode != 303 || res.Header.Get("Location") != "https://home.test/" || !strings.Contains(res.Header.Get("Set-Cookie"), "MoodleSession="+adas) {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestReportsToHomesAreCounted(t *testing.T) {
	g := newGuarded(t)
	reported := web.ObserveReports(g.site.Wwwroot, slog.New(slog.NewTextHandler(g.log, nil)), g.metrics)
	home := wwwroot(t, "https://sp.test")
	reported(home, 3, nil)
	reported(home, 2, nil)
	reported(home, 1, errors.New("dial"))
	for _, want := range []string{
		`jumpgate_keepalives_total{home="https://sp.test",outcome="ok",site="https://home.test"} 2`,
		`jumpgate_keepalives_total{home="https://sp.test",outcome="failed",site="https://home.test"} 1`,
	} {
		if !strings.Contains(g.scrape(), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if log := g.log.String(); !strings.Contains(log, "level=INFO msg=keep-alive") || !strings.Contains(log, "level=WARN msg=keep-alive") || !strings.Contains(log, "learners=1 error=dial") {
		t.Errorf("the log:\n%s", log)
	}
}
