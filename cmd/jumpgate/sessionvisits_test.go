package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway/moodletest"
)

// command runs a command for the forum.
func (h *headerForum) command(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	t := &terminal{ctx: context.Background(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	code = t.run(append(args, "-c", h.file))
	return out.String(), errs.String(), code
}

// lists fails the test unless session list says that these accounts are here.
func (h *headerForum) lists(accounts ...string) {
	h.t.Helper()
	out, errs, code := h.command("session", "list")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || errs != "" || len(lines) != len(accounts)+1 {
		h.t.Fatalf("list ended with %d: %s%s", code, out, errs)
	}
	for i, account := range accounts {
		if fields := strings.Fields(lines[i+1]); lines[0][:8] != "VISITOR " || len(fields) != 8 || fields[2] != account {
			h.t.Errorf("listed %q, want %s", lines[i+1], account)
		}
	}
}

func TestVisitorsAreListedAndEndedByCommand(t *testing.T) {
	r := startRedis(t)
	for name, s := range map[string]headerSetting{
		"moodle-web": {redis: r.url()},
		"moodle-redis": {
			redis: r.url(), identity: "{source: moodle-redis, prefix: mdl_, mfa: false}",
			sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeaderForum(t, s)
			v, other, bob := h.travels(0, "ada", ""), h.travels(0, "ada", anotherBrowser), h.travels(0, "bob", "")
			h.lists(h.account(0, "ada"), h.account(0, "ada"), h.account(0, "bob"))
			out, errs, code := h.command("session", "list", "--json", "--home", h.homes[0], "bob")
			var line visitorLine
			if err := json.Unmarshal([]byte(out), &line); err != nil || code != 0 || errs != "" {
				t.Fatalf("list --json ended with %d, %v: %s%s", code, err, out, errs)
			}
			if line.Username != "bob" || line.Home != h.homes[0] || line.Account != h.account(0, "bob") || len(line.UserAgent) != 40 || line.Until.Sub(line.Started) != 8*time.Hour {
				t.Errorf("listed %+v", line)
			}
			out, errs, code = h.command("session", "end", "--home", h.homes[0], "ada")
			if code != 0 || errs != "" || out != strings.Repeat(h.forum+"\tended\n", 2) {
				t.Errorf("end ended with %d: %s%s", code, out, errs)
			}
			if v.isLoggedIn(h.forum) || other.isLoggedIn(h.forum) || !bob.isLoggedIn(h.forum) || !v.isLoggedIn(h.homes[0]) {
				t.Error("not the learner's sessions here are over, and no others")
			}
			h.lists(h.account(0, "bob"))
			if out, errs, code = h.command("session", "end", "--home", h.homes[0], "ada"); code != 0 || errs != "" || out != "ada has no session here\n" {
				t.Errorf("the second time end ended with %d: %s%s", code, out, errs)
			}
			if name != "moodle-web" {
				return
			}
			down := func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
			}
			h.through.Store(&down)
			if out, errs, code = h.command("session", "end", "--home", h.homes[0], "bob"); code != 1 || !strings.HasPrefix(out, h.forum+"\tfailed  ") {
				t.Errorf("while Moodle is down end ended with %d: %s%s", code, out, errs)
			}
			h.through.Store(nil)
			h.lists(h.account(0, "bob"))
		})
	}
}

func TestVisitorsAtAnApplicationAreListedAndEndedByCommand(t *testing.T) {
	r := startRedis(t)
	a := newApplicationOf(t, headerSetting{redis: r.url(), landing: "{by: jwt, session_idle: 2h, session_life: 12h}"})
	v, bob := a.travels(0, "ada", ""), a.travels(1, "bob", "")
	out, errs, code := a.command("session", "list", "--json", "--home", a.homes[0])
	var line visitorLine
	if err := json.Unmarshal([]byte(out), &line); err != nil || code != 0 || errs != "" {
		t.Fatalf("list --json ended with %d, %v: %s%s", code, err, out, errs)
	}
	if life := line.Until.Sub(line.Started); line.Account != a.account(0, "ada") || line.Home != a.homes[0] || life < 2*time.Hour-time.Minute || life > 2*time.Hour+time.Minute {
		t.Errorf("listed %+v", line)
	}
	out, errs, code = a.command("session", "end", "--home", a.homes[0], "ada")
	if code != 0 || errs != "" || out != a.forum+"\tended\n" {
		t.Errorf("end ended with %d: %s%s", code, out, errs)
	}
	a.shows(v, "")
	a.shows(bob, a.account(1, "bob"))
	a.lists(a.account(1, "bob"))
}
