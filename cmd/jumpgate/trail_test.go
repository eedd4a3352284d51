package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/moodletest"
)

// awaitEvent waits until a trail holds an event of a kind, and returns it.
func awaitEvent(t *testing.T, dir string, kind audit.Kind) audit.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var found audit.Event
	err := audit.Follow(ctx, dir, audit.Filter{Kind: kind}, 1, true, func(e audit.Event, _ []byte) error {
		found = e
		return io.EOF
	})
	if err != io.EOF {
		t.Fatalf("the trail has no %s: %v", kind, err)
	}
	return found
}

// ask runs a command line and returns its output.
func ask(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	term := &terminal{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	if code := term.run(args); code != 0 {
		t.Errorf("%q ended with %d: %s%s", args, code, &out, &errs)
	}
	return out.String()
}

func TestAJourneyCanBeReadInTheTrail(t *testing.T) {
	r := startRedis(t)
	f := newFederation(t, setting{
		redis: r.url(), identity: "{source: moodle-redis, prefix: mdl_, mfa: false}",
		sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
	})
	dir, file := f.config.Audit.Dir, f.config.File
	v := f.arrives(t, "")
	redeemed := awaitEvent(t, dir, audit.KindRedemption)
	var landed audit.Event
	for line := range strings.Lines(ask(t, "audit", "query", "-c", file, "--user", f.Username, "--decision", "allow", "--kind", "decision", "--format", "jsonl")) {
		if err := json.Unmarshal([]byte(line), &landed); err != nil {
			t.Fatal(err)
		}
	}
	if landed.Outcome != "landed" || landed.Step != "return" || landed.Token == "" || landed.Token != redeemed.Token ||
		redeemed.User != f.Username || redeemed.Peer != f.SP || redeemed.Decision != audit.Allow {
		t.Errorf("landed %+v\nredeemed %+v", landed, redeemed)
	}
	if key := awaitEvent(t, dir, audit.KindKey); key.Step != "made" || !strings.HasPrefix(key.Detail, "SHA256:") {
		t.Errorf("key %+v", key)
	}
	v.logout(f.IDP)
	if logout := awaitEvent(t, dir, audit.KindLogout); logout.User != f.Username || logout.Peer != f.SP {
		t.Errorf("logout %+v", logout)
	}
	ask(t, "session", "end", "-c", file, f.Username)
	if e := awaitEvent(t, dir, audit.KindAdmin); e.Step != "session end" || e.User != f.Username || !strings.Contains(e.Detail, "run by") {
		t.Errorf("admin %+v", e)
	}

	// So is what else a command does to a peer or a link, with the link's id.
	ask(t, "link", "revoke", "-c", file, "some-id")
	ask(t, "mnet", "poll", "-c", file, f.SP)
	ask(t, "mnet", "call", "-c", file, f.SP, "listServices")
	term := &terminal{ctx: t.Context(), stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	if code := term.run([]string{"mnet", "call", "-c", file, f.SP, "no/such/method.php/x", "a secret"}); code != 1 {
		t.Errorf("a call that is refused ended with %d", code)
	}
	for part, want := range map[string]int{
		`step="link revoke"  link="some-id"`: 1, `step="mnet poll"`: 1,
		`step="mnet call"  target="system/listServices"`: 1, `step="mnet call"  target="no/such/method.php/x"`: 1,
		"allow": 3 + 1, "error": 1, "a secret": 0,
	} {
		if said := ask(t, "audit", "query", "-c", file, "--kind", "admin"); strings.Count(said, part) != want {
			t.Errorf("%s: not %d of them:\n%s", part, want, said)
		}
	}

	// The gateway's file, and those of commands, which name the one before.
	if said := ask(t, "audit", "verify", dir); strings.Count(said, "good ") != 6 || strings.Contains(said, "BAD") {
		t.Errorf("verify: %s", said)
	}
	// Redis has the same, and the heads.
	if said := ask(t, "audit", "tail", "-c", file, "--redis", "-n", "100", "--kind", "admin"); !strings.Contains(said, `step="session end"`) {
		t.Errorf("tail: %s", said)
	}
	heads := strings.Fields(ask(t, "audit", "heads", "-c", file))
	if len(heads) < 6 { // both first lines, and the command's last one
		t.Fatalf("heads: %q", heads)
	}
	for i := 0; i < len(heads); i += 2 {
		if said := ask(t, "audit", "verify", "--head", heads[i], dir); !strings.Contains(said, "head "+filepath.Join(dir, heads[i+1])) {
			t.Errorf("verify --head %s: %s", heads[i], said)
		}
	}
}

func TestTheDemoHasATrail(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		term := &terminal{ctx: ctx, stdin: strings.NewReader(""), stdout: in, stderr: io.Discard}
		ended <- term.run([]string{"demo", "--idp-port", "0", "--sp-port", "0", "--json", "--state-dir", dir})
		in.Close()
	}()
	var s scene
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, out)
	newVisitor(t).follow(s.DeepLink).login(s.Username, s.Password).reads(s, s.Username)
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("it ended with %d", code)
	}
	trail := s.Trail
	if trail != filepath.Join(dir, "audit") {
		t.Errorf("it says that its trail is in %s", trail)
	}
	if said := ask(t, "audit", "verify", trail); strings.Contains(said, "it was not closed") {
		t.Errorf("verify: %s", said)
	}
	for kind, want := range map[string]int{"decision": 2, "redemption": 1, "landing": 1, "config": 1, "close": 1} {
		if said := ask(t, "audit", "query", "--dir", trail, "--kind", kind); strings.Count(said, "\n") != want {
			t.Errorf("%s, want %d:\n%s", kind, want, said)
		}
	}
}

func TestATrailThatCannotBeBegunKeepsTheGatewayFromStarting(t *testing.T) {
	f := newFederation(t, setting{identity: "{source: moodle-web}"})
	c := *f.config
	c.Audit.Dir = filepath.Join(c.File, "audit") // below a file
	if _, err := newInstance(t.Context(), &c, f.gateway.Load().log); err == nil || hintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestNoCellOfATableIsAFormula(t *testing.T) {
	for in, want := range map[string]string{
		"/mod/x": "/mod/x", "=1": "'=1", "@x": "'@x", "/a;=1+1": "/a;'=1+1", "/a; -1": "/a; '-1", "a=b;c": "a=b;c", "\t=1": `\t=1`,
	} {
		names, values := fields(audit.Event{Target: in})
		if got := values[slices.Index(names, "target")]; got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestAnExportedAddressNamesNobody(t *testing.T) {
	for in, want := range map[string]string{
		"/mod/forum/discuss.php?user=ada": "/mod/forum/discuss.php", "https://forum.test/a#ada": "https://forum.test/a",
		"https://ada@forum.test/": "…@forum.test/", "https://ada:x@forum.test/a?b": "…@forum.test/a", "//ada@@forum.test": "…@forum.test",
		"mailto:ada@forum.test": "…@forum.test", "/x%3Fuser=ada": "/x", "/x%253fada": "/x", `/x\u202eada`: "/x", "/x;ada": "/x", "/x&user=ada": "/x",
		"": "", "?hostid=3": "", "%": "",
	} {
		if got := withoutQuery(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
