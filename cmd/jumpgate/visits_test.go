package main

import (
	"bytes"
	"crypto/sha1" // the wire's
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// travels takes a new visitor through a login at a home to the forum.
func (h *headerForum) travels(home int, username, userAgent string) *visitor {
	h.t.Helper()
	v := newVisitor(h.t)
	v.userAgent = userAgent
	v.follow(gateway.JumpLink(wwwroot(h.t, h.homes[home]), gateway.Moodle, wwwroot(h.t, h.forum), target(h.t, h.forum, moodletest.SampleDeepLink)))
	return v.login(username, "pw").isAt(h.crossroads, h.account(home, username))
}

func target(t *testing.T, site, wantsurl string) gateway.Target {
	t.Helper()
	d := gateway.DecideOwn(gateway.OwnSite(wwwroot(t, site)), wantsurl)
	if !d.Allow {
		t.Fatal(d.Rule)
	}
	return d.Target
}

// eachHeaderForum runs a test with each identity source.
func eachHeaderForum(t *testing.T, test func(*testing.T, *headerForum)) {
	r := startRedis(t)
	for name, s := range map[string]headerSetting{
		"moodle-web": {},
		"moodle-redis": {
			identity: "{source: moodle-redis, prefix: mdl_, mfa: false, redis: " + r.url() + "}",
			sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, newHeaderForum(t, s)) })
	}
}

// wait waits for what the gateways do in the background.
func (h *headerForum) wait() {
	for _, g := range []*instance{h.gateway, h.homeGateway} {
		g.children.Wait()
	}
}

const anotherBrowser = "Mozilla/5.0 (another)"

func sha1Hex(userAgent string) string {
	sum := sha1.Sum([]byte(userAgent))
	return hex.EncodeToString(sum[:])
}

func TestALogoutAtHomeEndsTheSessionAtAForumWithoutMNet(t *testing.T) {
	eachHeaderForum(t, func(t *testing.T, h *headerForum) {
		for home := range h.homes {
			v, other := h.travels(home, "ada", ""), h.travels(home, "ada", anotherBrowser)
			bob, namesake := h.travels(home, "bob", ""), h.travels(1-home, "ada", "")
			v.logout(h.homes[home])
			h.wait()
			if v.isLoggedIn(h.forum) {
				t.Error("the learner is still logged in at the forum")
			}
			for name, v := range map[string]*visitor{"another browser": other, "another learner": bob, "who has the same name at another home": namesake} {
				if !v.isLoggedIn(h.forum) {
					t.Errorf("%s is logged out", name)
				}
			}
		}
		if want := "at=" + h.forum + " user=" + h.account(0, "ada") + " cause=home outcome=ended"; !strings.Contains(h.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, h.log.String())
		}
	})
}

func TestALogoutAtAForumWithoutMNetEndsTheSessionAtHome(t *testing.T) {
	eachHeaderForum(t, func(t *testing.T, h *headerForum) {
		for home := range h.homes {
			v := h.travels(home, "ada", "")
			other := h.travels(home, "bob", "")
			v.logout(h.forum)
			if v.at.String() != h.homes[home]+"/" {
				t.Errorf("the learner ends on %s after %q", v.at, v.hops)
			}
			h.wait()
			if v.isLoggedIn(h.homes[home]) || v.isLoggedIn(h.forum) {
				t.Error("the learner is still logged in")
			}
			if !other.isLoggedIn(h.homes[home]) || !other.isLoggedIn(h.forum) {
				t.Error("somebody else is logged out")
			}
			if want := "at=" + h.homes[home] + " user=ada cause=here outcome=ended"; !strings.Contains(h.log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, h.log.String())
			}
		}
	})
}

// TestALocalLogoutStaysHere: who has an account of the forum itself is led nowhere
// else, and a logout that Moodle asks about is none.
func TestALocalLogoutStaysHere(t *testing.T) {
	h := newHeaderForum(t, headerSetting{users: func(*headerForum) []moodletest.User {
		return []moodletest.User{{Password: "pw", User: gateway.User{Username: "carol", FirstName: "Carol", LastName: "Shaw", Email: "carol@forum.test"}}}
	}})
	v := newVisitor(t).follow(h.forum+"/login/index.php").login("carol", "pw")
	if v.logout(h.forum); v.at.String() != h.forum+"/" {
		t.Errorf("who has an account here ends on %s", v.at)
	}
	v = h.travels(0, "ada", "")
	if v.follow(h.forum + "/login/logout.php?sesskey=wrong"); v.at.Path != "/login/logout.php" {
		t.Errorf("the page that asks is %s", v.at)
	}
	h.wait()
	if !v.isLoggedIn(h.forum) || !v.isLoggedIn(h.homes[0]) {
		t.Error("the learner is logged out")
	}
}

func TestAHomeThatHangsDelaysNoLogoutAtAForum(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	v := h.travels(0, "ada", "")
	goOn := make(chan struct{})
	var calls atomic.Int32
	hang := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == gateway.Moodle.RPCPath() && calls.Add(1) == 1 {
				<-goOn
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	}
	h.toHome.Store(&hang)
	start := time.Now()
	v.logout(h.forum)
	if took := time.Since(start); v.at.String() != h.homes[0]+"/" || took > 5*time.Second { // of the ten that a call has
		t.Errorf("after %s the learner is at %s", took, v.at)
	}
	if v.isLoggedIn(h.forum) {
		t.Error("the learner is still logged in at the forum")
	}
	close(goOn) // the next try finds it well
	h.wait()
	if v.isLoggedIn(h.homes[0]) {
		t.Error("the learner is still logged in at home")
	}
}

// recorder keeps the last message that it carries.
type recorder struct{ message []byte }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		r.message, req.Body = body, io.NopCloser(bytes.NewReader(body))
	}
	return http.DefaultTransport.RoundTrip(req)
}

// callForum calls a method of the forum as a home does.
func (h *headerForum) callForum(home int, method string, params ...mnet.Value) (mnet.Value, error) {
	h.t.Helper()
	return h.recordCall(&recorder{}, home, method, params...)
}

func (h *headerForum) recordCall(record *recorder, home int, method string, params ...mnet.Value) (mnet.Value, error) {
	h.t.Helper()
	forum := &gateway.Peer{Wwwroot: wwwroot(h.t, h.forum), Application: gateway.Moodle}
	client := &mnet.Client{
		Keys: func() []*mnet.Key { return []*mnet.Key{h.homeKeys[home]} }, Site: wwwroot(h.t, h.homes[home]), HTTP: &http.Client{Transport: record},
	}
	cert, err := client.FetchCertificate(h.t.Context(), forum)
	if err != nil {
		h.t.Fatal(err)
	}
	return client.Call(h.t.Context(), forum, cert, "auth/mnet/auth.php/"+method, params...)
}

// TestAHomeEndsNothingThatIsNotItsOwn has a hostile home speak about others.
func TestAHomeEndsNothingThatIsNotItsOwn(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	v := h.travels(0, "ada", anotherBrowser)
	agent := sha1Hex(anotherBrowser)
	for _, test := range []struct {
		name                string
		username, userAgent string
	}{
		{"another home's learner", "ada", agent},
		{"by the name here", h.account(0, "ada"), agent},
		{"by a key of ours", h.homes[0] + " ada", agent},
		{"all browsers", "ada", ""},
		{"nobody", "", agent},
		{"a long name", strings.Repeat("a", 1000), agent},
		{"a pattern", "*", "*"},
	} {
		if answer, err := h.callForum(1, "kill_child", test.username, test.userAgent); answer != false || err != nil {
			t.Errorf("%s: answered %v, %v", test.name, answer, err)
		}
	}
	if answer, err := h.callForum(0, "kill_child", "ada", sha1Hex("Mozilla/5.0 (third)")); answer != false || err != nil {
		t.Errorf("the home, about another browser: answered %v, %v", answer, err)
	}
	if !v.isLoggedIn(h.forum) {
		t.Fatal("the learner is logged out")
	}
	if answer, err := h.callForum(0, "kill_child", "ada", agent); answer != true || err != nil {
		t.Errorf("the home itself: answered %v, %v", answer, err)
	}
	if v.isLoggedIn(h.forum) {
		t.Error("the learner is logged in")
	}
	if answer, err := h.callForum(0, "kill_child", "ada", agent); answer != false || err != nil {
		t.Errorf("once more: answered %v, %v", answer, err)
	}
}

// TestALogoutThatIsReplayedEndsNothing has somebody on the way send it again when
// the learner is back.
func TestALogoutThatIsReplayedEndsNothing(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	v := h.travels(0, "ada", anotherBrowser)
	var record recorder
	if answer, err := h.recordCall(&record, 0, "kill_child", "ada", sha1Hex(anotherBrowser)); answer != true || err != nil {
		t.Fatalf("answered %v, %v", answer, err)
	}
	if v.follow(v.landing(h)); !v.isLoggedIn(h.forum) {
		t.Fatal("the learner is not back")
	}
	res, err := http.Post(h.forum+gateway.Moodle.RPCPath(), "text/xml", bytes.NewReader(record.message))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if !v.isLoggedIn(h.forum) {
		t.Errorf("the learner is logged out:\n%s", h.log.String())
	}
}

func TestAHomeWithoutAGrantEndsNothing(t *testing.T) {
	h := newHeaderForum(t, headerSetting{grants: "publish: [], subscribe: [sso_idp]"})
	if answer, err := h.callForum(1, "kill_child", "ada", sha1Hex(anotherBrowser)); err == nil {
		t.Errorf("answered %v", answer)
	}
}

// TestALogoutAtHomeOutlivesTheQuestion: who is asked at the forum, and logs out at
// home meanwhile, has changed their mind, and so has everybody who finds the page.
func TestALogoutAtHomeOutlivesTheQuestion(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	v := h.travels(0, "ada", anotherBrowser)
	bob := newVisitor(t)
	bob.userAgent = anotherBrowser
	bob.follow(h.homes[0]+"/login/index.php").login("bob", "pw")
	v.follow(bob.landing(h))
	ticket := v.ticket()
	bob.logout(h.homes[0])
	h.wait()
	v.decides(h.crossroads, ticket, "switch", "same-origin")
	if !strings.Contains(v.page, "token-refused") {
		t.Errorf("the page at %s:\n%s", v.at, v.page)
	}
	v.isAt(h.crossroads, h.account(0, "ada"))
}

// landing is an address that a visitor takes to the forum who is logged in at home.
func (v *visitor) landing(h *headerForum) string {
	v.t.Helper()
	redirects := v.client.CheckRedirect
	defer func() { v.client.CheckRedirect = redirects }()
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := http.NewRequest("GET", gateway.JumpLink(wwwroot(v.t, h.homes[0]), gateway.Moodle, wwwroot(v.t, h.forum), target(v.t, h.forum, "/")), nil)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("User-Agent", v.userAgent)
	res, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	res.Body.Close()
	return res.Header.Get("Location")
}

func TestLearnersBusyAtAForumWithoutMNetAreReported(t *testing.T) {
	h := newHeaderForum(t, headerSetting{})
	if answer, err := h.callForum(0, "keepalive_client"); answer != true || err != nil {
		t.Errorf("while nobody is there, answered %v, %v", answer, err)
	}
	h.travels(0, "ada", "")
	h.travels(1, "bob", "")
	if answer, err := h.callForum(0, "keepalive_client"); answer != "" || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	// Without an error: the home has taken it.
	if want := "msg=keep-alive site=" + h.forum + " home=" + h.homes[0] + " learners=1\n"; strings.Count(h.log.String(), want) != 1 || strings.Contains(h.log.String(), "home="+h.homes[1]+" learners") {
		t.Errorf("the log lacks %q:\n%s", want, h.log.String())
	}
}
