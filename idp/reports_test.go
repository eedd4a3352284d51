package idp_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// call calls a method of sso_idp as a peer that was authenticated, through the
// document that would be on the wire.
func (h *home) call(t *testing.T, peer, method string, params ...mnet.Value) (mnet.Value, *mnet.Call, error) {
	t.Helper()
	name, params, err := mnet.DecodeCall(mnet.EncodeCall("auth/mnet/auth.php/"+method, params...))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range h.Methods() {
		if m.Name == name {
			if len(params) < m.MinParams {
				t.Fatalf("%s wants %d parameters", method, m.MinParams)
			}
			call := &mnet.Call{Peer: h.Peers.Find(peer), Method: name, Params: params}
			v, err := m.Call(t.Context(), call)
			return v, call, err
		}
	}
	t.Fatalf("no method %s", method)
	return nil, nil, nil
}

// visit lets a learner land at sp.test.
func (h *home) visit(t *testing.T, username, picture string) {
	t.Helper()
	u := ada
	u.Username, u.Picture = username, picture
	token, err := h.state.Mint(t.Context(), store.Grant{
		User: u, Peer: wwwroot(t, "https://sp.test"), UserAgent: "ua", Home: "sealed", HomeHash: store.HomeHash(username),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.nonce++
	if _, err := h.state.Redeem(t.Context(), [32]byte{h.nonce, 1}, token, store.Redeemer{
		Peer: wwwroot(t, "https://sp.test"), UserAgent: "ua", Life: 8 * time.Hour,
	}); err != nil {
		t.Fatal(err)
	}
}

// captured reads a document of the captures.
func captured(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../gateway/mnet/testdata/captures/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantNote(t *testing.T, call *mnet.Call, want bool) {
	t.Helper()
	reason, detail := call.Noted()
	if (reason == "not-their-learner") != want || want != (detail != nil) {
		t.Errorf("noted %q, %v", reason, detail)
	}
}

func member(name string, v mnet.Value) mnet.Member { return mnet.Member{Name: name, Value: v} }

func TestARecordedReportBecomesTheCourseList(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.visit(t, "learner1", "")
	_, params, err := mnet.DecodeCall(captured(t, "update_enrolments/request.xmlrpc.xml"))
	if err != nil {
		t.Fatal(err)
	}
	v, call, err := h.call(t, "sp.test", "update_enrolments", params...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(captured(t, "update_enrolments/response.xmlrpc.xml")), string(mnet.EncodeResponse(v))); diff != "" {
		t.Errorf("answer (-recorded +ours):\n%s", diff)
	}
	wantNote(t, call, false)
	got, err := h.state.Courses(t.Context(), "learner1")
	want := []store.Courses{{Peer: "https://sp.test", Reported: h.now.UTC(), Courses: []store.Course{
		{ID: "2", FullName: "Deep course", ShortName: "DEEP1", Category: "Category 1"},
	}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("courses, %v:\n%s", err, diff)
	}
	if v, _, err := h.call(t, "sp.test", "update_enrolments", "learner1", mnet.Array{}); v != true || err != nil {
		t.Errorf("an empty list is answered with %v, %v", v, err)
	}
	if got, _ := h.state.Courses(t.Context(), "learner1"); len(got) != 0 {
		t.Errorf("after an empty list: %+v", got)
	}
}

func TestUpdateEnrolments(t *testing.T) {
	course := func(id string) mnet.Value { return mnet.Struct{member("id", id), member("fullname", "Course "+id)} }
	stored := func(ids ...string) (list []store.Course) {
		for _, id := range ids {
			list = append(list, store.Course{ID: id, FullName: "Course " + id})
		}
		return list
	}
	huge := strings.Repeat("x", 100_000)
	for name, test := range map[string]struct {
		peer     string
		username mnet.Value
		courses  mnet.Value
		answer   mnet.Value
		kept     []store.Course
		note     bool
	}{
		"a struct of courses":         {"sp.test", "ada", mnet.Struct{member("2", course("2")), member("7", course("7"))}, nil, stored("2", "7"), false},
		"an array of courses":         {"sp.test", "ada", mnet.Array{course("2")}, nil, stored("2"), false},
		"numbers as numbers":          {"sp.test", "ada", mnet.Array{mnet.Struct{member("id", 2), member("fullname", 7), member("startdate", 9)}}, nil, []store.Course{{ID: "2", FullName: "7", StartDate: 9}}, false},
		"what is no course":           {"sp.test", "ada", mnet.Array{"x", mnet.Array{}, mnet.Struct{}, mnet.Struct{member("id", mnet.Array{course("3")})}, course("2")}, nil, stored("2"), false},
		"texts that are long":         {"sp.test", "ada", mnet.Array{mnet.Struct{member("id", "2"), member("fullname", huge), member("summary", huge)}}, nil, []store.Course{{ID: "2", FullName: huge[:255]}}, false},
		"nothing":                     {"sp.test", "ada", mnet.Array{}, true, nil, false},
		"no list":                     {"sp.test", "ada", "x", false, nil, false},
		"no name":                     {"sp.test", "", mnet.Array{course("2")}, false, nil, false},
		"a name that is none":         {"sp.test", mnet.Array{"ada"}, mnet.Array{course("2")}, false, nil, false},
		"a learner who never was":     {"sp.test", "nobody", mnet.Array{course("2")}, nil, nil, true},
		"nothing about a stranger":    {"sp.test", "nobody", mnet.Array{}, true, nil, true},
		"a learner of another peer":   {"mahara.test", "ada", mnet.Array{course("2")}, nil, nil, true},
		"a name that is far too long": {"sp.test", huge, mnet.Array{course("2")}, nil, nil, true},
		"a name in upper case":        {"sp.test", "ADA", mnet.Array{course("2")}, nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			h.visit(t, "ada", "")
			v, call, err := h.call(t, test.peer, "update_enrolments", test.username, test.courses)
			if v != test.answer || err != nil {
				t.Errorf("answer %v, %v", v, err)
			}
			wantNote(t, call, test.note)
			var kept []store.Course
			for _, name := range []string{"ada", "nobody", "ADA"} {
				all, err := h.state.Courses(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range all {
					kept = append(kept, c.Courses...)
				}
			}
			if diff := cmp.Diff(test.kept, kept); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

// The reader of messages refuses what is larger than a message may be.
func TestAHundredThousandCoursesAreNotRead(t *testing.T) {
	list := make(mnet.Array, 100_000)
	for i := range list {
		list[i] = mnet.Struct{member("id", strconv.Itoa(i))}
	}
	if _, _, err := mnet.DecodeCall(mnet.EncodeCall("a/b", "ada", list)); err == nil {
		t.Error("they were read")
	}
}

func TestAPeerMayReportForADayAfterASession(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.visit(t, "ada", "")
	for age, note := range map[time.Duration]bool{9 * time.Hour: false, 40 * time.Hour: true} {
		h.now = time.Unix(1795336536, 0).Add(age)
		_, call, err := h.call(t, "sp.test", "update_enrolments", "ada", mnet.Array{})
		if err != nil {
			t.Fatal(err)
		}
		wantNote(t, call, note)
	}
}

func TestRefreshLog(t *testing.T) {
	entry := func(username string, more ...mnet.Member) mnet.Value {
		return append(mnet.Struct{member("username", username), member("time", "1795336536"), member("action", "view")}, more...)
	}
	kept := func(username string) store.LogRecord {
		return store.LogRecord{Username: username, Time: 1795336536, Action: "view"}
	}
	full := kept("ada")
	full.IP, full.Course, full.Module, full.URL, full.Info = "192.0.2.7", "Deep course", "forum", "view.php?id=2", "x"
	for name, test := range map[string]struct {
		peer string
		list mnet.Value
		kept []store.LogRecord
		note string
	}{
		"all of a record": {"sp.test", mnet.Array{entry("ada", member("ip", "192.0.2.7"), member("course", 2), member("coursename", "Deep course"),
			member("module", "forum"), member("url", "view.php?id=2"), member("info", "x"), member("cmid", "3"))}, []store.LogRecord{full}, ""},
		"a course by its id alone": {"sp.test", mnet.Array{entry("ada", member("course", 2))}, []store.LogRecord{
			{Username: "ada", Time: 1795336536, Action: "view", Course: "2"}}, ""},
		"some of others": {"sp.test", mnet.Array{entry("ada"), entry("nobody"), entry("ada"), entry("nobody"), entry("")},
			[]store.LogRecord{kept("ada"), kept("ada")}, "3 of 5 records"},
		"all of another peer": {"mahara.test", mnet.Array{entry("ada")}, nil, "1 of 1 records"},
		"a map of records":    {"sp.test", mnet.Struct{member("5", entry("ada"))}, []store.LogRecord{kept("ada")}, ""},
		"what is no record":   {"sp.test", mnet.Array{"x", mnet.Array{}, mnet.Struct{}}, nil, "3 of 3 records"},
		"nothing":             {"sp.test", mnet.Array{}, nil, ""},
		"no list":             {"sp.test", "x", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			h.visit(t, "ada", "")
			v, call, err := h.call(t, test.peer, "refresh_log", test.list)
			want := mnet.Struct{member("code", 0), member("message", "All ok")}
			if diff := cmp.Diff(mnet.Value(want), v); diff != "" || err != nil {
				t.Errorf("answer, %v:\n%s", err, diff)
			}
			if _, detail := call.Noted(); test.note != "" {
				wantNote(t, call, true)
				if !strings.Contains(fmt.Sprint(detail), test.note) {
					t.Errorf("noted %v", detail)
				}
			} else {
				wantNote(t, call, false)
			}
			var kept []store.LogRecord
			for _, peer := range []string{"https://sp.test", "https://mahara.test"} {
				records, err := h.state.Log(t.Context(), wwwroot(t, peer), 100)
				if err != nil {
					t.Fatal(err)
				}
				kept = append(kept, records...)
			}
			if diff := cmp.Diff(test.kept, kept, cmpopts.IgnoreFields(store.LogRecord{}, "Received")); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALogAboutThousandsCostsAFewHundredRoundTrips(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.visit(t, "ada", "")
	list := mnet.Array{mnet.Struct{member("username", "ada")}}
	for i := range 3000 {
		list = append(list, mnet.Struct{member("username", strconv.Itoa(i))})
	}
	list = append(list, mnet.Struct{member("username", "ada")})
	before := h.trips.n.Load()
	if _, _, err := h.call(t, "sp.test", "refresh_log", list); err != nil {
		t.Fatal(err)
	}
	if trips := h.trips.n.Load() - before; trips > 510 {
		t.Errorf("%d round trips", trips)
	}
	if kept, err := h.state.Log(t.Context(), wwwroot(t, "https://sp.test"), 10); len(kept) != 2 || err != nil {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func TestFetchThemeInfoAnswersAsRecorded(t *testing.T) {
	h := newHome(t, store.Limits{})
	v, _, err := h.call(t, "sp.test", "fetch_theme_info")
	recorded := strings.ReplaceAll(string(captured(t, "fetch_theme_info/response.xmlrpc.xml")), "http://idp.test:8080", "https://home.test/moodle")
	if diff := cmp.Diff(recorded, string(mnet.EncodeResponse(v))); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// pictures is a Moodle behind that has the recorded picture of user 3.
func pictures(t *testing.T, status int) (*moodle.Behind, mnet.Struct) {
	t.Helper()
	recorded, err := mnet.DecodeResponse(captured(t, "fetch_user_image/response.xmlrpc.xml"))
	if err != nil {
		t.Fatal(err)
	}
	images := recorded.(mnet.Struct)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, size := range []string{"f1", "f2"} {
			if r.URL.Path == "/moodle/user/pix.php/3/"+size+".jpg" {
				data, _ := images.Get(size)
				raw, err := base64.StdEncoding.DecodeString(mnet.Text(data))
				if err != nil {
					t.Error(err)
				}
				w.WriteHeader(status)
				w.Write(raw)
				return
			}
		}
		t.Errorf("asked for %s", r.URL)
	}))
	t.Cleanup(server.Close)
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return moodle.NewBehind(moodle.BehindOptions{Upstream: upstream, Site: wwwroot(t, "https://home.test/moodle")}), images
}

func TestFetchUserImage(t *testing.T) {
	for name, test := range map[string]struct {
		peer, username, picture string
		status                  int
		want                    mnet.Value // nil for the recorded picture
		note                    bool
	}{
		"a learner with a picture":       {"sp.test", "ada", "10", 200, nil, false},
		"a learner without one":          {"sp.test", "ada", "0", 500, mnet.Array{}, false},
		"one of whom it is not known":    {"sp.test", "ada", "", 500, mnet.Array{}, false},
		"a picture that is not shown":    {"sp.test", "ada", "10", 404, mnet.Array{}, false},
		"a learner of another peer":      {"mahara.test", "ada", "10", 500, false, true},
		"a learner who never was":        {"sp.test", "nobody", "10", 500, false, true},
		"no name":                        {"sp.test", "", "10", 500, false, true},
		"a name that is far too long":    {"sp.test", strings.Repeat("a", 10_000), "10", 500, false, true},
		"a name that is made like a key": {"sp.test", "ada}:{x", "10", 500, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			h.visit(t, "ada", test.picture)
			var recorded mnet.Struct
			h.Behind, recorded = pictures(t, test.status)
			want := test.want
			if want == nil {
				want = recorded
			}
			v, call, err := h.call(t, test.peer, "fetch_user_image", test.username)
			if diff := cmp.Diff(want, v); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
			wantNote(t, call, test.note)
		})
	}
}

// A fault would keep the learner from landing at a Mahara.
func TestAMoodleThatFailsHasNoPicture(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.visit(t, "ada", "10")
	h.Behind, _ = pictures(t, 500)
	v, call, err := h.call(t, "sp.test", "fetch_user_image", "ada")
	if cmp.Diff(mnet.Value(mnet.Array{}), v) != "" || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	if reason, _ := call.Noted(); reason != "picture-failed" {
		t.Errorf("noted %q", reason)
	}
	h.Behind = nil
	if v, _, err := h.call(t, "sp.test", "fetch_user_image", "ada"); cmp.Diff(mnet.Value(mnet.Array{}), v) != "" || err != nil {
		t.Errorf("without a Moodle behind: %v, %v", v, err)
	}
}

func TestARedisThatIsDownIsNotAStranger(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.redis.Close()
	for method, params := range map[string][]mnet.Value{
		"update_enrolments": {"ada", mnet.Array{}},
		"refresh_log":       {mnet.Array{mnet.Struct{member("username", "ada")}}},
		"fetch_user_image":  {"ada"},
	} {
		_, call, err := h.call(t, "sp.test", method, params...)
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", method, err)
		}
		wantNote(t, call, false)
	}
}

func TestUserAuthorisePromisesAPicture(t *testing.T) {
	h := newHome(t, store.Limits{})
	before := ada
	defer func() { ada = before }()
	redeem := func(nonce byte) mnet.Struct {
		t.Helper()
		token, _ := landing(t, h.jump(browser{"MoodleSession": adas}, "/x"))
		trips := h.trips.n.Load()
		v, err := h.redeem(t, "sp.test", token, firefox, nonce)
		if err != nil {
			t.Fatal(err)
		}
		if trips = h.trips.n.Load() - trips; trips != 1 && nonce > 1 { // the first teaches Redis the script
			t.Errorf("a redemption cost %d round trips", trips)
		}
		return v.(mnet.Struct)
	}
	redeem(1)
	promised := func(s mnet.Struct) (fields []string) {
		for _, name := range []string{"picture", "_mnet_userpicture_timemodified", "_mnet_userpicture_mimetype"} {
			v, ok := s.Get(name)
			if !ok {
				v = "-"
			}
			fields = append(fields, mnet.Text(v))
		}
		return fields
	}
	at := func(d time.Duration) string { return strconv.FormatInt(1795336536+int64(d/time.Second), 10) }
	for i, step := range []struct {
		picture string
		want    []string
	}{
		{"", []string{"-", "-", "-"}},
		{"0", []string{"0", "-", "-"}},
		{"10", []string{"10", at(2 * time.Minute), "image/png"}},
		{"10", []string{"10", at(2 * time.Minute), "image/png"}},
		{"11", []string{"11", at(4 * time.Minute), "image/png"}},
		{"0", []string{"0", "-", "-"}},
	} {
		h.now = time.Unix(1795336536, 0).Add(time.Duration(i) * time.Minute)
		ada.Picture = step.picture
		if diff := cmp.Diff(step.want, promised(redeem(byte(i+2)))); diff != "" {
			t.Errorf("step %d:\n%s", i, diff)
		}
	}
	recorded, err := mnet.DecodeResponse(captured(t, "user_authorise-with-picture/response.xmlrpc.xml"))
	if err != nil {
		t.Fatal(err)
	}
	names := func(s mnet.Struct) (names []string) {
		for _, m := range s {
			names = append(names, m.Name)
		}
		return names
	}
	ada.Picture, ada.Country, ada.Lang, ada.Timezone, ada.Description = "10", "DE", "en", "99", "x"
	ada.MailFormat, ada.MailDigest, ada.MailDisplay = "1", "0", "2"
	if diff := cmp.Diff(names(recorded.(mnet.Struct)), names(redeem(100))); diff != "" {
		t.Errorf("fields (-recorded +ours):\n%s", diff)
	}
}
