package moodletest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLogoutAsAProxySeesIt(t *testing.T) {
	server, client := testRedis(t)
	h := testHome(t, func(o *HomeOptions) { o.Sessions = Sessions{Redis: client} })
	tests := map[string]struct {
		method  string
		sesskey string // "right" for the session's own
		out     bool
	}{
		"GET with the sesskey":    {"GET", "right", true},
		"POST with the sesskey":   {"POST", "right", true},
		"GET without a sesskey":   {"GET", "", false},
		"GET with a wrong one":    {"GET", "bad", false},
		"POST without a sesskey":  {"POST", "", false},
		"POST with an empty body": {"POST", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, h.wwwroot)
			b.login("learner1", "secret")
			key := "session_" + b.sid()
			if tt.sesskey == "right" {
				tt.sesskey = field(t, sesskeyField, b.get("/my/").body)
			}
			var a answer
			if tt.method == "GET" {
				a = b.get("/login/logout.php?sesskey=" + tt.sesskey)
			} else {
				a = b.post("/login/logout.php", url.Values{"sesskey": {tt.sesskey}})
			}
			if !tt.out {
				b.want(a, 200, "")
				if !strings.Contains(a.body, "Do you really want to log out?") || len(a.header.Values("Set-Cookie")) != 0 {
					t.Error("no confirm page, or it sets a cookie")
				}
				b.want(b.get("/my/"), 200, "")
				return
			}
			b.want(a, 303, "/")
			if a.location != h.url("/") || server.Exists(key) || server.HGet("session_"+b.sid(), "userid") != "i:0;" {
				t.Errorf("to %s, old key there: %t", a.location, server.Exists(key))
			}
			again := b.get("/login/logout.php")
			b.want(again, 303, "/")
			if len(again.header.Values("Set-Cookie")) != 1 {
				t.Error("a second logout gives no new session")
			}
			b.want(b.get("/my/"), 303, "/login/index.php")
		})
	}
}

func TestADeadSessionIsReplaced(t *testing.T) {
	clock := &clock{now: time.Now()}
	server, client := testRedis(t)
	kill := map[string]func(sid string){
		"key gone":      func(sid string) { server.Del("session_" + sid) },
		"session timed": func(string) { clock.add(8*time.Hour + time.Second) },
		"half written":  func(sid string) { server.HSet("session_"+sid, "sessdata", "N;") },
	}
	h := testHome(t, func(o *HomeOptions) { o.Sessions, o.Now = Sessions{Redis: client}, clock.read })
	for name, end := range kill {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, h.wwwroot)
			b.login("learner1", "secret")
			old := b.sid()
			end(old)
			a := b.get("/my/")
			b.want(a, 303, "/login/index.php")
			if b.sid() == old || server.Exists("session_"+old) {
				t.Error("the dead session lives on")
			}
			a = b.get(a.location)
			b.want(a, 303, "/login/index.php?loginredirect=1")
			b.want(b.get(a.location), 200, "")
		})
	}
	t.Run("a public page comes with a new cookie", func(t *testing.T) {
		b := newBrowser(t, h.wwwroot)
		b.login("learner1", "secret")
		server.Del("session_" + b.sid())
		if a := b.get("/"); a.status != 200 || len(a.header.Values("Set-Cookie")) != 1 {
			t.Errorf("got %d with %q", a.status, a.header.Values("Set-Cookie"))
		}
	})
}

// clock is set by a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestTimeModifiedIsWrittenEveryTwentySeconds(t *testing.T) {
	s := newSession(time.Unix(1000, 0), "")
	for _, step := range []struct{ at, want int64 }{{1001, 1001}, {1002, 1001}, {1021, 1001}, {1022, 1022}} {
		if s.touch(time.Unix(step.at, 0), ""); s.modified != step.want {
			t.Errorf("at %d: %d, want %d", step.at, s.modified, step.want)
		}
	}
}

func TestScriptsOfPagesGetTheRecordedAnswers(t *testing.T) {
	h := testHome(t, nil)
	b := newBrowser(t, h.wwwroot)
	call := func(sesskey, method, args string) string {
		t.Helper()
		r, _ := http.NewRequestWithContext(context.Background(), "POST", h.url("/lib/ajax/service.php?sesskey="+sesskey+"&nosessionupdate=1"),
			strings.NewReader(`[{"index":0,"methodname":"`+method+`","args":`+args+`}]`))
		resp, err := b.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("got %s as %s", resp.Status, resp.Header.Get("Content-Type"))
		}
		return strings.ReplaceAll(string(body), strings.ReplaceAll(h.url(""), "/", `\/`), `http:\/\/idp.test:8080`)
	}
	dead := `[{"error":true,"exception":{"message":"Web service is not available. (The session has been logged out or has expired.)","errorcode":"servicerequireslogin","link":"http:\/\/idp.test:8080\/","moreinfourl":"https:\/\/docs.moodle.org\/405\/en\/error\/webservice\/servicerequireslogin"}}]`
	if got := call("x", "core_session_time_remaining", "{}"); got != dead {
		t.Errorf("got  %s\nwant %s", got, dead)
	}
	b.login("learner1", "secret")
	sesskey := field(t, sesskeyField, b.get("/my/").body)
	if got := call(sesskey, "core_session_time_remaining", "{}"); got != `[{"error":false,"data":{"userid":3,"timeremaining":28800}}]` {
		t.Errorf("got %s", got)
	}
	if got := call("wrong", "core_session_time_remaining", "{}"); !strings.Contains(got, `"errorcode":"invalidsesskey"`) {
		t.Errorf("got %s", got)
	}
	if got := call(sesskey, "core_user_get_users_by_field", `{"field":"id","values":["3","2"]}`); !strings.Contains(got, `"username":"learner1"`) || strings.Contains(got, "admin") {
		t.Errorf("got %s", got)
	}
}

func TestTheWebServiceAnswersAsRecorded(t *testing.T) {
	h := testHome(t, func(o *HomeOptions) { o.Token = "TOKEN" })
	call := func(form url.Values) any {
		t.Helper()
		form.Set("moodlewsrestformat", "json")
		a := newBrowser(t, h.wwwroot).post("/webservice/rest/server.php", form)
		var v any
		if err := json.Unmarshal([]byte(a.body), &v); err != nil || a.status != 200 || a.header.Get("Set-Cookie") != "" {
			t.Fatalf("got %d %s", a.status, a.body)
		}
		return v
	}
	user := call(url.Values{"wstoken": {"TOKEN"}, "wsfunction": {"core_user_get_users_by_field"}, "field": {"id"}, "values[0]": {"3"}})
	recording := map[string]any{
		"id": 3.0, "username": "learner1", "firstname": "Lena", "lastname": "Lerner", "fullname": "Lena Lerner",
		"email": "learner1@idp.test", "department": "", "firstaccess": 0.0, "lastaccess": 0.0, "auth": "manual",
		"suspended": false, "confirmed": true, "lang": "en", "theme": "", "timezone": "99", "mailformat": 1.0,
		"trackforums": 0.0, "city": "Berlin", "country": "DE",
		"profileimageurlsmall": h.url("/theme/image.php/boost/core/1/u/f2"), "profileimageurl": h.url("/theme/image.php/boost/core/1/u/f1"),
	}
	if diff := cmp.Diff([]any{recording}, user); diff != "" {
		t.Errorf("(-recorded +ours)\n%s", diff)
	}
	tests := map[string]struct {
		form url.Values
		want any
	}{
		"a wrong token": {url.Values{"wstoken": {"x"}, "wsfunction": {"core_webservice_get_site_info"}}, map[string]any{
			"exception": `core\exception\moodle_exception`, "errorcode": "invalidtoken", "message": "Invalid token - token not found"}},
		"a missing parameter": {url.Values{"wstoken": {"TOKEN"}, "wsfunction": {"core_user_get_users_by_field"}, "field": {"username"}}, map[string]any{
			"exception": `core\exception\invalid_parameter_exception`, "errorcode": "invalidparameter",
			"message": "Invalid parameter value detected", "debuginfo": "Missing required key in single structure: values"}},
		"nobody": {url.Values{"wstoken": {"TOKEN"}, "wsfunction": {"core_user_get_users_by_field"}, "field": {"id"}, "values[0]": {"99"}}, []any{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, call(tt.form)); diff != "" {
				t.Errorf("(-recorded +ours)\n%s", diff)
			}
		})
	}
}

func TestAHomeWithoutItsRedisSaysSo(t *testing.T) {
	server, client := testRedis(t)
	h := testHome(t, func(o *HomeOptions) { o.Sessions = Sessions{Redis: client} })
	server.SetError("LOADING Redis is loading the dataset in memory")
	if a := newBrowser(t, h.wwwroot).get("/"); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d", a.status)
	}
}

func TestSessionsInMemoryEndAndAreBounded(t *testing.T) {
	c := &clock{now: time.Now()}
	m := newMemorySessions(c.read)
	ctx := context.Background()
	for range maxMemorySessions + 5 {
		if err := m.save(ctx, newSession(c.read(), ""), []string{"x"}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.sessions) != maxMemorySessions {
		t.Errorf("%d sessions", len(m.sessions))
	}
	s := newSession(c.read(), "")
	_ = m.save(ctx, s, []string{"x"}, time.Hour)
	if got, _ := m.load(ctx, s.sid); got == nil {
		t.Error("a living session is not found")
	}
	c.add(time.Hour + time.Second)
	if got, _ := m.load(ctx, s.sid); got != nil {
		t.Error("a session outlives its time")
	}
}

func TestCompressedSessionsAreReadBack(t *testing.T) {
	server, client := testRedis(t)
	h := testHome(t, func(o *HomeOptions) { o.Sessions = Sessions{Redis: client, Gzip: true} })
	b := newBrowser(t, h.wwwroot)
	b.login("learner1", "secret")
	b.want(b.get("/my/"), 200, "")
	v, err := parsePHP(server.HGet("session_"+b.sid(), "sessdata"))
	if text, ok := v.(string); err != nil || !ok || !strings.HasPrefix(text, "\x1f\x8b") {
		t.Errorf("sessdata is not compressed: %q, %v", v, err)
	}
}

func TestRequestsOfOneSessionDoNotDisturbEachOther(t *testing.T) {
	h := testHome(t, nil)
	b := newBrowser(t, h.wwwroot)
	b.login("learner1", "secret")
	sid := b.sid()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a := b.get("/my/"); a.status != 200 {
				t.Errorf("got %d", a.status)
			}
		})
	}
	wg.Wait()
	if b.sid() != sid {
		t.Error("the session id changed")
	}
}
