package moodletest

import (
	"bytes"
	"context"
	"errors"
	"image/color"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

func methodsOf(calls []Call) []string {
	var names []string
	for _, c := range calls {
		names = append(names, c.Method)
	}
	return names
}

func TestKeysMayChangeWhileCallsArrive(t *testing.T) {
	fed := newFederation(t)
	home := fed.home.wwwroot.String()
	renewed := newKey(t, home)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := fed.forum.Call(t.Context(), home, "system/listServices"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	fed.home.ArchiveKey(renewed)
	wg.Wait()
	if got := fed.forum.mnet.peers[0].certificate.Fingerprint(); got != renewed.Certificate().Fingerprint() {
		t.Errorf("the forum knows the key %s", got)
	}
}

func TestThreeOldKeysAreKept(t *testing.T) {
	fed := newFederation(t)
	home, forum := fed.home.wwwroot.String(), fed.forum.wwwroot.String()
	if _, err := fed.forum.Call(t.Context(), home, "system/listServices"); err != nil {
		t.Fatal(err)
	}
	first := fed.forum.mnet.peers[0].certificate
	for i, want := range []string{"", "", "", "4: remote server error: code: , message: mnet/encryption-invalid"} {
		fed.home.ArchiveKey(newKey(t, home))
		fed.forum.mnet.peers[0].pin(first)
		_, err := fed.forum.Call(t.Context(), home, "system/listServices")
		expectError(t, "a Moodle "+string(rune('1'+i))+" keys behind", err, want)
	}
	if last := fed.home.Calls(); last[len(last)-1].Fault != mnet.FaultNotOpened || last[len(last)-1].Peer != forum {
		t.Errorf("last call %+v", last[len(last)-1])
	}
}

func TestAServerFetchesTheNewKeyOfItsCaller(t *testing.T) {
	fed := newFederation(t)
	home, forum := fed.home.wwwroot.String(), fed.forum.wwwroot.String()
	for _, site := range []*site{&fed.home.site, &fed.forum.site} { // let them meet
		if _, err := site.Call(t.Context(), map[bool]string{true: forum, false: home}[site == &fed.home.site], "system/listServices"); err != nil {
			t.Fatal(err)
		}
	}
	before := len(fed.forum.Calls())
	fed.forum.ArchiveKey(newKey(t, forum))
	if _, err := fed.forum.Call(t.Context(), home, "system/listServices"); err != nil {
		t.Fatal(err)
	}
	want := []string{"system/keyswap", "", "system/listServices"}
	calls := fed.forum.Calls()[before:]
	if diff := cmp.Diff(want, methodsOf(calls)); diff != "" {
		t.Fatalf("what the home asked (-want +got)\n%s", diff)
	}
	if calls[1].Fault != mnet.FaultNewKey {
		t.Errorf("the call with the old key: %+v", calls[1])
	}

	// Both have new keys at once: whoever is called tells its own first.
	fed.home.ArchiveKey(newKey(t, home))
	fed.forum.ArchiveKey(newKey(t, forum))
	if _, err := fed.forum.Call(t.Context(), home, "system/listServices"); err != nil {
		t.Error(err)
	}
}

func TestASignatureThatNoKeyExplainsIsRefused(t *testing.T) {
	asked := 0
	home := capturedPeer(t, homeName, "idp")
	forum, err := NewForum(ForumOptions{Wwwroot: mustWwwroot(t, spName), Key: capturedKey(t, "sp"), Homes: []*gateway.Peer{home},
		Client: network(func(_ string, body []byte) []byte {
			asked++
			if method, _, err := mnet.DecodeCall(body); err != nil || method != "system/keyswap" {
				t.Errorf("asked for %s", method)
			}
			return mnet.EncodeResponse(home.Certificate.PEM())
		}).client()})
	if err != nil {
		t.Fatal(err)
	}
	l := layersOf{payload: mnet.EncodeCall("system/listServices"), signer: "stranger", at: sentAt}
	_, err = mnet.DecodeResponse(opened(t, record(t, forum, spName+"/mnet/xmlrpc/server.php", l.wrap(t)).Body.Bytes()))
	if fault, ok := errors.AsType[*mnet.Fault](err); !ok || fault.Code != mnet.FaultBadSignature || asked != 1 {
		t.Errorf("%v after %d questions", err, asked)
	}
}

func TestHostsAreAddedAsByTheForm(t *testing.T) {
	start := func(title string) (*Forum, gateway.Wwwroot) {
		handler := &late{}
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		root := mustWwwroot(t, strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
		f, err := NewForum(ForumOptions{Wwwroot: root, Title: title, Key: newKey(t, root.String())})
		if err != nil {
			t.Fatal(err)
		}
		handler.Handler = f
		return f, root
	}
	a, rootA := start("Alpha & Omega")
	b, rootB := start("Beta")
	grants := gateway.Peer{Publish: []string{"mnet_enrol"}, Subscribe: []string{}}
	add := func(site *Forum, root gateway.Wwwroot) error {
		p := grants
		p.Wwwroot = root
		return site.AddHost(t.Context(), p)
	}
	if err := add(b, rootA); err != nil {
		t.Fatal(err)
	}
	if name := b.HostName(rootA.String()); name != "Alpha &amp; Omega | Alpha &amp; Omega" {
		t.Errorf("the host is called %q", name)
	}
	if _, err := b.Call(t.Context(), rootA.String(), "system/listServices"); err == nil {
		t.Error("a host that does not know us answers")
	}
	if err := add(a, rootB); err != nil {
		t.Fatal(err)
	}
	v, err := b.Call(t.Context(), rootA.String(), "system/listServices")
	want := mnet.Array{mnet.Struct{{Name: "name", Value: "mnet_enrol"}, {Name: "apiversion", Value: "1"}, {Name: "publish", Value: "1"}, {Name: "subscribe", Value: "0"}}}
	if diff := cmp.Diff(mnet.Value(want), v); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff([]string{"system/keyswap", "", "system/listServices"}, methodsOf(a.Calls())); diff != "" {
		t.Errorf("calls (-want +got)\n%s", diff)
	}
	expectError(t, "the form", add(a, rootB), "already exists")

	// The same site at another address: what the certificate names is a part
	// of the one, but not all of it.
	other := mustWwwroot(t, rootB.String()+"/moodle")
	a.client = &http.Client{Transport: network(func(url string, body []byte) []byte {
		if strings.HasPrefix(url, other.String()+"/") && len(body) > 0 {
			return mnet.EncodeResponse(b.mnet.keys.current().Certificate().PEM())
		}
		return nil
	})}
	expectError(t, "the form", add(a, other), "the certificate of "+other.String()+" names")
	elsewhere := mustWwwroot(t, "http://127.0.0.1:1")
	a.client = &http.Client{Transport: network(func(string, []byte) []byte {
		return mnet.EncodeResponse(b.mnet.keys.current().Certificate().PEM())
	})}
	expectError(t, "the form", add(a, elsewhere), "returned public key for different URI")
}

func TestARPCEndpointMayBeSlowOrDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := callers(t, func(string, []byte) []byte { return nil })
		call := func(ctx context.Context) (aborted bool) {
			defer func() { aborted = recover() == http.ErrAbortHandler }()
			l := layersOf{payload: mnet.EncodeCall("system/listServices"), signer: "idp", at: sentAt}
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, spName+"/mnet/xmlrpc/server.php", bytes.NewReader(l.wrap(t)))
			f.ServeHTTP(httptest.NewRecorder(), r)
			return false
		}
		begin := time.Now()
		f.SetDelay(3 * time.Second)
		if call(t.Context()) || time.Since(begin) != 3*time.Second {
			t.Errorf("a slow endpoint took %s", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if !call(ctx) || time.Since(begin) != 4*time.Second {
			t.Errorf("after a caller's patience: %s", time.Since(begin))
		}
		f.SetDelay(0)
		f.SetDown(true)
		if !call(t.Context()) {
			t.Error("an endpoint that is down answers")
		}
		f.SetDown(false)
		if call(t.Context()) || len(f.Calls()) != 2 {
			t.Errorf("%d calls", len(f.Calls()))
		}
	})
}

func TestEnrolmentsAreAnsweredAsRecorded(t *testing.T) {
	f, err := NewForum(ForumOptions{
		Wwwroot: mustWwwroot(t, spName), Key: capturedKey(t, "sp"), Homes: []*gateway.Peer{capturedPeer(t, homeName, "idp")},
		Courses: []Course{
			{ID: 2, FullName: "Deep course", ShortName: "DEEP1", Summary: "lab course", Category: "Category 1"},
			{ID: 3, Hidden: true}, {ID: 4, For: mustWwwroot(t, "http://other.test")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	enrolled := []string(nil)
	for _, name := range []string{"enrol-available_courses", "enrol-enrol_user", "enrol-user_enrolments", "enrol-unenrol_user"} {
		w := record(t, f, spName+"/mnet/xmlrpc/server.php", captured(t, name, "request.xml"))
		got := open(t, w.Code, w.Body.Bytes(), capturedKey(t, "idp"), capturedKey(t, "sp").Certificate())
		want := open(t, http.StatusOK, captured(t, name, "response.xml"), capturedKey(t, "idp"), capturedKey(t, "sp").Certificate())
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-recorded +ours)\n%s", name, diff)
		}
		enrolled = append(enrolled, strings.Join(f.Enrolled(homeName, 2), ","))
	}
	if diff := cmp.Diff([]string{"", "learner2", "learner2", ""}, enrolled); diff != "" {
		t.Errorf("enrolled after each call (-want +got)\n%s", diff)
	}
}

func TestEnrolmentsRefuseAsMoodleDoes(t *testing.T) {
	f, err := NewForum(ForumOptions{
		Wwwroot: mustWwwroot(t, spName), Key: capturedKey(t, "sp"), Courses: SampleCourses(), Now: func() time.Time { return sentAt },
		Homes: []*gateway.Peer{capturedPeer(t, homeName, "idp")},
	})
	if err != nil {
		t.Fatal(err)
	}
	call := func(method string, params ...mnet.Value) (mnet.Value, error) {
		l := layersOf{payload: mnet.EncodeCall("enrol/mnet/enrol.php/"+method, params...), signer: "idp", at: sentAt}
		return mnet.DecodeResponse(opened(t, record(t, f, spName+"/mnet/xmlrpc/server.php", l.wrap(t)).Body.Bytes()))
	}
	ada := mnet.Struct{{Name: "username", Value: "ada"}, {Name: "firstname", Value: "Ada"}}
	for _, tt := range []struct {
		name, method string
		params       []mnet.Value
		fault        int
	}{
		{"nobody", "enrol_user", []mnet.Value{mnet.Struct{}, "2"}, 5021},
		{"no course", "enrol_user", []mnet.Value{ada, "7"}, 5012},
		{"a hidden course", "enrol_user", []mnet.Value{ada, "4"}, 5013},
		{"out of a hidden course", "unenrol_user", []mnet.Value{"ada", "4"}, 5013},
		{"somebody unknown", "unenrol_user", []mnet.Value{"bob", "2"}, 5014},
		{"too little", "course_enrolments", nil, mnet.FaultParameters},
	} {
		_, err := call(tt.method, tt.params...)
		if fault, ok := errors.AsType[*mnet.Fault](err); !ok || fault.Code != tt.fault {
			t.Errorf("%s: %v, want fault %d", tt.name, err, tt.fault)
		}
	}
	for range 2 { // twice is once
		if v, err := call("enrol_user", ada, "2"); v != true || err != nil {
			t.Errorf("enrol_user: %v, %v", v, err)
		}
	}
	row := mnet.Array{mnet.Struct{
		{Name: "username", Value: "ada"}, {Name: "shortname", Value: "student"}, {Name: "name", Value: ""},
		{Name: "enrol", Value: "mnet"}, {Name: "timemodified", Value: unixText(sentAt)},
	}}
	for name, tt := range map[string]struct {
		params []mnet.Value
		want   mnet.Array
	}{
		"all of a course":    {[]mnet.Value{2}, row},
		"a number as text":   {[]mnet.Value{"2"}, row},
		"students":           {[]mnet.Value{2, "teacher, student"}, row},
		"students, an array": {[]mnet.Value{2, mnet.Array{"student"}}, row},
		"teachers":           {[]mnet.Value{2, "teacher"}, mnet.Array{}},
		"another course":     {[]mnet.Value{3}, mnet.Array{}},
	} {
		v, err := call("course_enrolments", tt.params...)
		if diff := cmp.Diff(mnet.Value(tt.want), v); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestAPictureTravelsWithItsOwner(t *testing.T) {
	fed := newFederation(t)
	blue := SamplePicture(color.RGBA{B: 255, A: 255})
	fed.home.Update("learner1", func(u *User) { u.Icon, u.IconTime = blue, fed.clock.read() })
	get := func(b *browser, path string) answer {
		a := b.get(path)
		for a.status == http.StatusSeeOther {
			a = b.get(a.location)
		}
		return a
	}
	home := newBrowser(t, fed.home.wwwroot)
	for path, want := range map[string]string{
		"/user/pix.php/3/f1.jpg":   string(blue),
		"/user/pix.php/3/f2.jpg":   string(blue),
		"/user/pix.php/2/f1.jpg":   string(defaultPicture()), // has none
		"/user/pix.php/999/f1.jpg": string(defaultPicture()), // is not there
		"/user/pix.php/x":          string(defaultPicture()),
	} {
		a := get(home, path)
		if a.body != want || a.header.Get("Content-Type") != "image/png" || len(a.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: %d bytes of %s with %q", path, len(a.body), a.header.Get("Content-Type"), a.header.Values("Set-Cookie"))
		}
	}
	home.want(home.get("/user/pix.php/999/f1.jpg"), 303, "/theme/image.php/boost/core/1/u/f1")
	home.want(home.get("/user/pix.php/3/f1.jpg"), 303, "/pluginfile.php/103/user/icon/f1")

	home.login("learner1", "secret")
	land := func() { home.want(home.get(home.get(fed.jump("/")).location), 303, fed.forum.url("/")) }
	fetches := func() (n int) {
		for _, c := range fed.home.Calls() {
			if strings.HasSuffix(c.Method, "/fetch_user_image") {
				n++
			}
		}
		return n
	}
	land()
	if u, _ := fed.forum.users.byName("learner1", 3); !bytes.Equal(u.Icon, blue) || u.Picture == "0" || fetches() != 1 {
		t.Errorf("after the first landing the picture is %d bytes, fetched %d times", len(u.Icon), fetches())
	}
	if land(); fetches() != 1 {
		t.Errorf("an old picture is fetched again: %d", fetches())
	}
	fed.clock.add(time.Minute)
	fed.home.Update("learner1", func(u *User) { u.IconTime = fed.clock.read() })
	if land(); fetches() != 2 {
		t.Errorf("a new picture is not fetched: %d", fetches())
	}
}
