package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// logout logs out of a site as its page offers to.
func (v *visitor) logout(site string) *visitor {
	v.t.Helper()
	v.follow(site + "/my/")
	key := sesskey.FindStringSubmatch(v.page)
	if key == nil {
		v.t.Fatalf("no sesskey on %s", v.at)
	}
	return v.follow(site + "/login/logout.php?sesskey=" + key[1])
}

// isLoggedIn reports whether a site shows a page that needs a login.
func (v *visitor) isLoggedIn(site string) bool {
	v.t.Helper()
	return v.follow(site+"/my/").at.Path == "/my/"
}

// arrives takes a new visitor through a login to the forum.
func (f *federation) arrives(t *testing.T, userAgent string) *visitor {
	t.Helper()
	v := newVisitor(t)
	v.userAgent = userAgent
	v.follow(f.DeepLink).login(f.Username, f.Password).reads(f.scene, f.Username)
	return v
}

func TestALogoutAtHomeEndsTheSessionAtTheForum(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v, other := f.arrives(t, ""), f.arrives(t, "Mozilla/5.0 (another)")
		v.logout(f.IDP)
		f.gateway.Load().children.Wait()
		if v.isLoggedIn(f.SP) {
			t.Error("the learner is still logged in at the forum")
		}
		if !other.isLoggedIn(f.SP) || !other.isLoggedIn(f.IDP) {
			t.Error("the learner's other browser is logged out")
		}
	})
}

func TestALogoutAtTheForumEndsTheSessionAtHome(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v, other := f.arrives(t, ""), f.arrives(t, "Mozilla/5.0 (another)")
		v.logout(f.SP)
		if v.at.String() != f.IDP+"/" {
			t.Errorf("the logout led to %s", v.at)
		}
		if v.isLoggedIn(f.IDP) {
			t.Error("the learner is still logged in at home")
		}
		if v.follow(f.DeepLink); v.at.Path != "/login/index.php" {
			t.Errorf("logged out, the click led to %s by %q", v.at, v.hops)
		}
		if !other.isLoggedIn(f.SP) || !other.isLoggedIn(f.IDP) {
			t.Error("the learner's other browser is logged out")
		}
	})
}

func TestAnEndedSessionAtHomeEndsTheOneAtTheForumWhenItIsUsed(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v := f.arrives(t, "")
		if err := f.home.EndSessions(t.Context(), f.Username); err != nil {
			t.Fatal(err)
		}
		v.follow(f.IDP + "/")
		f.gateway.Load().children.Wait()
		if v.isLoggedIn(f.SP) {
			t.Error("the learner is still logged in at the forum")
		}
	})
}

func TestAForumThatHangsDelaysNoLogout(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v := f.arrives(t, "")
		called, goOn := make(chan struct{}), make(chan struct{})
		hang := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(called)
			<-goOn
		})
		f.forumRPC.Store(&hang)
		v.logout(f.IDP) // returns while the forum hangs
		<-called
		if v.isLoggedIn(f.IDP) {
			t.Error("the learner is still logged in at home")
		}
		f.forumRPC.Store(nil) // the next try finds it well
		close(goOn)
		f.gateway.Load().children.Wait()
		if v.isLoggedIn(f.SP) {
			t.Error("the learner is still logged in at the forum")
		}
	})
}

func TestALogoutReachesTheForumAfterASecondLanding(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v := f.arrives(t, "Mozilla/5.0 (visitor)")
		v.follow(f.DeepLink).reads(f.scene, f.Username) // a second mail
		v.logout(f.IDP)
		f.gateway.Load().children.Wait()
		if v.isLoggedIn(f.SP) {
			t.Error("the learner is still logged in at the forum")
		}
	})
}

// callHome calls a method of the home as the forum does.
func (f *federation) callHome(t *testing.T, method string, params ...mnet.Value) (mnet.Value, error) {
	t.Helper()
	home := &gateway.Peer{Wwwroot: wwwroot(t, f.IDP), Application: gateway.Moodle}
	client := &mnet.Client{Keys: func() []*mnet.Key { return []*mnet.Key{f.forumKey} }, Site: wwwroot(t, f.SP)}
	cert, err := client.FetchCertificate(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	return client.Call(t.Context(), home, cert, "auth/mnet/auth.php/"+method, params...)
}

func TestALearnerBusyAtTheForumStaysLoggedInAtHome(t *testing.T) {
	r := startRedis(t)
	f := newFederation(t, setting{
		redis: r.url(), identity: "{source: moodle-redis, prefix: mdl_, mfa: false, touch_sessions: true}",
		sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
	})
	f.arrives(t, "")
	keys, err := r.Client.Keys(t.Context(), "mdl_session_*").Result()
	if err != nil {
		t.Fatal(err)
	}
	was := fmt.Sprintf("i:%d;", time.Now().Add(-time.Hour).Unix())
	for _, key := range keys {
		r.Client.HSet(t.Context(), key, "timemodified", was)
	}
	v, err := f.callHome(t, "keepalive_server", mnet.Array{f.Username})
	if code, _ := v.(mnet.Struct).Get("code"); code != 0 || err != nil {
		t.Errorf("answered %v, %v", v, err)
	}
	touched := 0
	for _, key := range keys {
		if r.Client.HGet(t.Context(), key, "timemodified").Val() != was {
			touched++
		}
	}
	if touched != 1 {
		t.Errorf("%d of %d sessions were touched", touched, len(keys))
	}
	v, err = f.callHome(t, "keepalive_server", mnet.Array{"root"})
	if code, _ := v.(mnet.Struct).Get("code"); code != 1 || err != nil {
		t.Errorf("about somebody else it answered %v, %v", v, err)
	}
	if log := f.log.String(); !strings.Contains(log, "reason=not-their-learner") {
		t.Errorf("the log does not tell that the forum spoke about somebody else:\n%s", log)
	}
}

// command runs a command for the federation's site.
func (f *federation) command(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	t := &terminal{ctx: context.Background(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	code = t.run(append(args, "-c", f.config.File))
	return out.String(), errs.String(), code
}

func TestSessionsAreListedAndEndedByCommand(t *testing.T) {
	for _, source := range []string{"moodle-redis", "moodle-web"} {
		t.Run(source, func(t *testing.T) {
			r := startRedis(t)
			identity := "{source: moodle-web}"
			sessions := moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"}
			if source == "moodle-redis" {
				identity = "{source: moodle-redis, prefix: mdl_, mfa: false}"
			}
			f := newFederation(t, setting{redis: r.url(), identity: identity, sessions: sessions})
			v, other := f.arrives(t, ""), f.arrives(t, "Mozilla/5.0 (another)")

			out, errs, code := f.command("session", "list")
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if code != 0 || errs != "" || len(lines) != 3 || !strings.HasPrefix(lines[0], "USER ") || strings.Count(out, f.Username+"   "+f.SP) != 2 {
				t.Errorf("list ended with %d: %s%s", code, out, errs)
			}
			out, errs, code = f.command("session", "list", "--json", f.Username)
			var line sessionLine
			if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &line); err != nil || code != 0 || errs != "" {
				t.Fatalf("list --json ended with %d, %v: %s%s", code, err, out, errs)
			}
			if line.Username != f.Username || line.Peer != f.SP || line.State != "live" || line.Until.Sub(line.Started) != 8*time.Hour {
				t.Errorf("listed %+v", line)
			}

			out, errs, code = f.command("session", "end", f.Username)
			if code != 0 || errs != "" || strings.Count(out, f.SP+"\tended\n") != 2 || strings.Count(out, f.IDP+"\tended\n") != 2 {
				t.Errorf("end ended with %d: %s%s", code, out, errs)
			}
			for _, v := range []*visitor{v, other} {
				if v.isLoggedIn(f.SP) || v.isLoggedIn(f.IDP) {
					t.Error("the learner is still logged in")
				}
				if v.follow(f.DeepLink); v.at.Path != "/login/index.php" {
					t.Errorf("logged out, the click led to %s by %q", v.at, v.hops)
				}
			}
			out, errs, code = f.command("session", "end", f.Username)
			if code != 0 || errs != "" || out != f.Username+" has no session at a peer\n" {
				t.Errorf("the second time end ended with %d: %s%s", code, out, errs)
			}
			if out, _, _ = f.command("session", "list", f.Username); !strings.Contains(out, " ended ") {
				t.Errorf("then listed %s", out)
			}
		})
	}
}

func TestSessionEndSaysWhichPeerCouldNotBeTold(t *testing.T) {
	r := startRedis(t)
	f := newFederation(t, setting{
		redis: r.url(), identity: "{source: moodle-redis, prefix: mdl_, mfa: false}",
		sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
	})
	v := f.arrives(t, "")
	broken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	f.forumRPC.Store(&broken)
	out, errs, code := f.command("session", "end", "--json", f.Username)
	var first, second outcomeLine
	lines := strings.SplitN(out, "\n", 3)
	if len(lines) != 3 || json.Unmarshal([]byte(lines[0]), &first) != nil || json.Unmarshal([]byte(lines[1]), &second) != nil {
		t.Fatalf("end --json said %s%s", out, errs)
	}
	if first.Site != f.SP {
		first, second = second, first
	}
	if code != 1 || first.Outcome != "failed" || !strings.Contains(first.Error, "HTTP status 502") {
		t.Errorf("end ended with %d and %+v", code, first)
	}
	if second != (outcomeLine{Site: f.IDP, Outcome: "ended"}) || v.isLoggedIn(f.IDP) {
		t.Errorf("at home: %+v", second)
	}
}

func TestSessionCommandsNeedARedisThatTheyCanReach(t *testing.T) {
	f := newFederation(t, setting{identity: "{source: moodle-web}"})
	for _, args := range [][]string{{"session", "list"}, {"session", "end", "ada"}} {
		if out, errs, code := f.command(args...); code != 1 || out != "" || !strings.Contains(errs, "embedded Redis") || !strings.Contains(errs, "hint:") {
			t.Errorf("%q ended with %d: %s%s", args, code, out, errs)
		}
	}
	r := startRedis(t)
	f = newFederation(t, setting{redis: r.url(), identity: "{source: moodle-web}"})
	r.stop()
	for _, args := range [][]string{{"session", "list"}, {"session", "list", "ada"}, {"session", "end", "ada"}} {
		if out, errs, code := f.command(args...); code != 1 || strings.Contains(out, "ada") || !strings.Contains(errs, "redis unavailable") || !strings.Contains(errs, "hint: the gateway's Redis") {
			t.Errorf("%q ended with %d: %s%s", args, code, out, errs)
		}
	}
	r.start()
}
