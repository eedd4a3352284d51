package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
	"jumpgate/gateway/store"
)

// relations are a gateway, the Moodle behind it, which speaks MNet itself, and
// a peer that calls.
type relations struct {
	t      *testing.T
	gate   *instance
	site   gateway.Wwwroot
	peer   *mnet.Client
	called *gateway.Peer // what the peer calls
	cert   *gateway.Certificate
	log    *logged
}

// logged keeps what is logged.
type logged struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

// last returns the last line and forgets all.
func (l *logged) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.String()), "\n")
	l.Reset()
	return lines[len(lines)-1]
}

func newKey(t *testing.T, w gateway.Wwwroot) *mnet.Key {
	t.Helper()
	key, err := mnet.NewKey(w, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newRelations starts them. The Moodle has the gateway's key if it is shared.
func newRelations(t *testing.T, shared bool) *relations {
	t.Helper()
	front, behind := unstarted(t), unstarted(t)
	r := &relations{t: t, log: &logged{}, site: wwwroot(t, "http://localhost:"+port(front))}
	forum := wwwroot(t, "http://127.0.0.1:1")
	key, forumKey := newKey(t, r.site), newKey(t, forum)
	r.called, r.cert = &gateway.Peer{Wwwroot: r.site, Application: gateway.Moodle}, key.Certificate()
	r.peer = &mnet.Client{Keys: func() []*mnet.Key { return []*mnet.Key{forumKey} }, Site: forum, HTTP: http.DefaultClient}

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "key.pem"), string(key.PEM()))
	writeFile(t, filepath.Join(dir, "forum.pem"), forumKey.Certificate().PEM())
	file := filepath.Join(dir, "jumpgate.yaml")
	writeFile(t, file, fmt.Sprintf(`
state_dir: state
sites:
  - wwwroot: %s
    upstream: http://127.0.0.1:%s
    key: key.pem
    identity: {source: moodle-web}
    peers: [{wwwroot: %q, certificate: forum.pem}]
`, r.site, port(behind), forum))
	loaded, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.gate, err = newInstance(context.Background(), loaded, slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.gate.close)

	moodles := key
	if !shared {
		moodles = newKey(t, r.site)
	}
	home, err := moodletest.NewHome(moodletest.HomeOptions{Wwwroot: r.site, Key: moodles, Peers: []*gateway.Peer{
		{Wwwroot: forum, Application: gateway.Moodle, Certificate: forumKey.Certificate()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", home)
	mux.HandleFunc("/user/pix.php/7/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/pluginfile.php/11/user/icon/"+r.URL.Path[len("/user/pix.php/7/"):][:2], http.StatusSeeOther)
	})
	mux.HandleFunc("/pluginfile.php/11/user/icon/{size}", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "GIF89a "+r.PathValue("size"))
	})
	front.Config.Handler, behind.Config.Handler = r.gate.handler, mux
	front.Start()
	behind.Start()
	return r
}

func (r *relations) call(method string, params ...mnet.Value) (mnet.Value, error) {
	return r.peer.Call(r.t.Context(), r.called, r.cert, method, params...)
}

func TestACallThatIsNotOursIsForTheMoodleBehind(t *testing.T) {
	for shared, reason := range map[bool]string{true: "passed", false: "unknown-method"} {
		r := newRelations(t, shared)
		_, err := r.call("enrol/mnet/enrol.php/available_courses")
		fault, ok := errors.AsType[*mnet.Fault](err)
		if !ok || fault.Code != mnet.FaultNoMethod || fault.Unauthenticated {
			t.Errorf("shared key: %v: %v", shared, err)
		}
		if line := r.log.last(); !strings.Contains(line, "reason="+reason) {
			t.Errorf("shared key: %v: logged\n%s", shared, line)
		}
	}
}

func TestAPeerReportsAndAsksAboutItsLearner(t *testing.T) {
	r := newRelations(t, false)
	state := r.gate.redis.Site(r.site)
	report := mnet.Struct{{Name: "2", Value: mnet.Struct{{Name: "id", Value: "2"}, {Name: "fullname", Value: "Deep course"}}}}
	if _, err := r.call("auth/mnet/auth.php/update_enrolments", "ada", report); err != nil {
		t.Fatal(err)
	}
	if line := r.log.last(); !strings.Contains(line, "reason=not-their-learner") || !strings.Contains(line, "ada") || !strings.Contains(line, "level=WARN") {
		t.Errorf("logged\n%s", line)
	}
	if courses, _ := state.Courses(t.Context(), "ada"); len(courses) != 0 {
		t.Errorf("a stranger's courses: %+v", courses)
	}

	token, err := state.Mint(t.Context(), store.Grant{
		Peer: r.peer.Site, UserAgent: "ua", Home: "sealed", HomeHash: "hash",
		User: gateway.User{ID: 7, Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@home.example", Picture: "10"},
	})
	if err != nil {
		t.Fatal(err)
	}
	user, err := r.call("auth/mnet/auth.php/user_authorise", token, "ua")
	if err != nil {
		t.Fatal(err)
	}
	if _, promised := user.(mnet.Struct).Get("_mnet_userpicture_timemodified"); !promised {
		t.Error("no picture is promised")
	}
	if _, err := r.call("auth/mnet/auth.php/update_enrolments", "ada", report); err != nil {
		t.Fatal(err)
	}
	if courses, err := state.Courses(t.Context(), "ada"); len(courses) != 1 || courses[0].Courses[0].FullName != "Deep course" {
		t.Errorf("courses: %+v, %v", courses, err)
	}
	picture, err := r.call("auth/mnet/auth.php/fetch_user_image", "ada")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"f1": "R0lGODlhIGYx", "f1_mimetype": "image/gif", "f2": "R0lGODlhIGYy"} {
		if got, _ := picture.(mnet.Struct).Get(name); got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	if line := r.log.last(); !strings.Contains(line, "reason=ok") {
		t.Errorf("logged\n%s", line)
	}
	methods, err := r.call("system/listMethods")
	if err != nil || len(methods.(mnet.Array)) < 5 {
		t.Errorf("methods %v, %v", methods, err)
	}
}
