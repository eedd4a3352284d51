package moodletest

import (
	"bytes"
	"errors"
	"image/color"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// record posts a document to a site.
func record(t *testing.T, site http.Handler, url string, doc []byte) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest(http.MethodPost, url, bytes.NewReader(doc)))
	return w
}

// opened takes the envelopes, if there are any, off an answer to the recorded
// home.
func opened(t *testing.T, doc []byte) []byte {
	t.Helper()
	return []byte(open(t, http.StatusOK, doc, capturedKey(t, "idp"), capturedKey(t, "sp").Certificate()).Doc)
}

// portfolio is a home and a forum that know each other, and a Mahara to which
// people of the home go and whose people go to the forum.
type portfolio struct {
	*federation
	mahara *Mahara
}

func newPortfolio(t *testing.T, change func(*MaharaOptions)) *portfolio {
	t.Helper()
	fed := newFederation(t)
	handler := &late{}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	root := mustWwwroot(t, server.URL+"/portfolio")
	o := MaharaOptions{
		Wwwroot: root, Title: "Portfolio", Key: newKey(t, root.String()), Now: fed.clock.read, Users: []User{learner()},
		Peers: []*gateway.Peer{
			{Wwwroot: fed.home.wwwroot, Name: "Home"},
			{Wwwroot: fed.forum.wwwroot, Name: "Forum", Publish: []string{gateway.ServiceSSOIDP}},
		},
	}
	if change != nil {
		change(&o)
	}
	mahara, err := NewMahara(o)
	if err != nil {
		t.Fatal(err)
	}
	handler.Handler = mahara
	for _, site := range []*site{&fed.home.site, &fed.forum.site} {
		if err := site.AddHost(t.Context(), gateway.Peer{Wwwroot: root, Application: gateway.Mahara}); err != nil {
			t.Fatal(err)
		}
	}
	return &portfolio{fed, mahara}
}

// jumpToMahara is where the home sends a browser that wants a page there.
func (p *portfolio) jumpToMahara(b *browser, wantsurl string) string {
	b.t.Helper()
	a := b.get(p.home.url("/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(p.mahara.wwwroot.String()) + "&wantsurl=" + url.QueryEscape(wantsurl)))
	b.want(a, 303, p.mahara.wwwroot.String()+"/auth/xmlrpc/land.php?token=")
	return a.location
}

func TestALearnerGetsFromHomeToAMahara(t *testing.T) {
	p := newPortfolio(t, nil)
	blue := SamplePicture(color.RGBA{B: 255, A: 255})
	p.home.Update("learner1", func(u *User) { u.Icon = blue })
	b := newBrowser(t, p.home.wwwroot)
	b.login("learner1", "secret")
	root := p.mahara.wwwroot.String()

	a := b.get(p.jumpToMahara(b, "/view/view.php?id=3#comment"))
	b.want(a, 303, root+"/view/view.php?id=3#comment")
	if page := b.get(a.location); !strings.Contains(page.body, "You are logged in as Lena Lerner") {
		t.Errorf("the page: %s", page.body)
	}
	if diff := cmp.Diff([]string{"system/keyswap", "auth/mnet/auth.php/user_authorise", "auth/mnet/auth.php/fetch_user_image"}, methodsOf(p.home.Calls())); diff != "" {
		t.Errorf("what the Mahara asked (-want +got)\n%s", diff)
	}
	if n := len(p.home.Calls()[0].Params); n != 2 {
		t.Errorf("its keyswap has %d parameters", n)
	}
	u, ok := p.mahara.Account(p.home.wwwroot, "learner1")
	if !ok || u.City != "Berlin" || u.Country != "de" || !bytes.Equal(u.Icon, blue) {
		t.Errorf("account %+v", u)
	}

	// A page that has no slash, and none at all; and back home.
	b.want(b.get(p.jumpToMahara(b, "view/view.php?id=4")), 303, root+"/view/view.php?id=4")
	landing, _ := url.Parse(p.jumpToMahara(b, "/x"))
	query := landing.Query()
	query.Set("remoteurl", "1")
	landing.RawQuery = query.Encode()
	b.want(b.get(landing.String()), 303, p.home.url("/x"))
	landing, _ = url.Parse(p.jumpToMahara(b, ""))
	query = landing.Query()
	query.Del("wantsurl")
	landing.RawQuery = query.Encode()
	if a := b.get(landing.String()); a.status != 303 || a.location != root+"/" {
		t.Errorf("without wantsurl: %d to %s", a.status, a.location)
	}

	// Those who return are not asked about again: no picture, no enrolments.
	last := methodsOf(p.home.Calls())
	if diff := cmp.Diff([]string{"auth/mnet/auth.php/user_authorise"}, last[len(last)-1:]); diff != "" {
		t.Error(diff)
	}
	// A logout at the Mahara is a logout at home.
	b.want(b.get(root+"/?logout"), 303, p.home.wwwroot.String())
	b.want(b.get("/my/"), 303, "/login/index.php")
}

func TestTheHomeEndsTheSessionAtAMahara(t *testing.T) {
	p := newPortfolio(t, nil)
	root := p.mahara.wwwroot.String()
	b := newBrowser(t, p.home.wwwroot)
	b.login("learner1", "secret")
	b.get(p.jumpToMahara(b, "/"))
	page := root + "/view/view.php?id=1"
	for _, tt := range []struct {
		username string
		want     bool
	}{{"somebody", false}, {"learner1", true}} {
		v, err := p.home.Call(t.Context(), root, "auth/mnet/auth.php/kill_child", tt.username, "the hash of another browser")
		if v != tt.want || err != nil {
			t.Errorf("kill_child of %s: %v, %v", tt.username, v, err)
		}
		if in := strings.Contains(b.get(page).body, "You are logged in"); in == tt.want {
			t.Errorf("after kill_child of %s: logged in %v", tt.username, in)
		}
	}
}

func TestLandingsAtAMaharaThatFail(t *testing.T) {
	p := newPortfolio(t, nil)
	b := newBrowser(t, p.home.wwwroot)
	b.login("learner1", "secret")
	good, _ := url.Parse(p.jumpToMahara(b, "/"))
	for name, tt := range map[string]struct {
		change func(url.Values)
		want   string
	}{
		"no token":        {func(q url.Values) { q.Del("token") }, "Missing parameter 'token'"},
		"no idp":          {func(q url.Values) { q.Del("idp") }, "Missing parameter 'idp'"},
		"an unknown idp":  {func(q url.Values) { q.Set("idp", p.home.url("/")) }, "authentication plugin instances"},
		"one we SSO to":   {func(q url.Values) { q.Set("idp", p.forum.url("")) }, "not accept SSO connections"},
		"a foreign token": {func(q url.Values) { q.Set("token", "x") }, "fault 1"},
	} {
		query := good.Query()
		tt.change(query)
		if a := b.get(p.mahara.wwwroot.String() + "/auth/xmlrpc/land.php?" + query.Encode()); a.status == 303 || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for name, change := range map[string]func(*MaharaOptions){
		"nobody new":  func(o *MaharaOptions) { o.NoNewUsers = true },
		"no pictures": nil,
	} {
		p := newPortfolio(t, change)
		b := newBrowser(t, p.home.wwwroot)
		b.login("learner1", "secret")
		if name == "no pictures" {
			p.home.mnet.methods["auth/mnet/auth.php/fetch_user_image"] = nil
		}
		a := b.get(p.jumpToMahara(b, "/"))
		if a.status == 303 {
			t.Errorf("%s: lands at %s", name, a.location)
		}
		if _, ok := p.mahara.Account(p.home.wwwroot, "learner1"); ok != (name == "no pictures") {
			t.Errorf("%s: account there %v", name, ok)
		}
	}
}

func TestAMaharaBreaksTheNamesThatAreNotASCII(t *testing.T) {
	p := newPortfolio(t, nil)
	p.home.Update("learner1", func(u *User) { u.FirstName = "Zoë" })
	b := newBrowser(t, p.home.wwwroot)
	b.login("learner1", "secret")
	if a := b.get(p.jumpToMahara(b, "/")); a.status == 303 || !strings.Contains(a.body, `invalid byte sequence for encoding UTF8: "Zo\xeb"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	// What ISO-8859-1 does not have stays as it is.
	p.home.Update("learner1", func(u *User) { u.FirstName = "Čapek" })
	b.want(b.get(p.jumpToMahara(b, "/")), 303, p.mahara.wwwroot.String())
	if u, _ := p.mahara.Account(p.home.wwwroot, "learner1"); u.FirstName != "Čapek" {
		t.Errorf("account %+v", u)
	}
}

func TestPeopleOfAMaharaGetToTheForum(t *testing.T) {
	p := newPortfolio(t, nil)
	b := newBrowser(t, p.mahara.wwwroot)
	jump := p.mahara.wwwroot.String() + "/auth/xmlrpc/jump.php?wr=" + p.forum.wwwroot.String()
	b.want(b.post(jump+"&ins=3&wantsurl=/mod/forum/discuss.php?d=1", url.Values{"login_username": {"learner1"}, "login_password": {"secret"}}), 303, jump)
	if front := b.get("/"); !strings.Contains(front.body, `href="`+jump+`&amp;ins=3"`) {
		t.Errorf("front page: %s", front.body)
	}
	a := b.get(jump + "&ins=3&wantsurl=/mod/forum/discuss.php?d=1")
	b.want(a, 303, p.forum.url("/auth/mnet/land.php?token="))
	if !strings.HasSuffix(a.location, "&wantsurl=/mod/forum/discuss.php?d=1") {
		t.Errorf("wantsurl is not handed on as it came: %s", a.location)
	}
	b.want(b.get(a.location), 303, p.forum.url("/mod/forum/discuss.php?d=1"))
	if page := b.get(p.forum.url("/mod/forum/discuss.php?d=1")); !strings.Contains(page.body, "Lena Lerner") {
		t.Errorf("the page: %.500s", page.body)
	}
	if a := b.get(jump); !strings.Contains(a.body, "Missing parameter 'ins'") {
		t.Errorf("without ins: %s", a.body)
	}
	if a := b.get(strings.Replace(jump, p.forum.wwwroot.String(), p.home.wwwroot.String(), 1) + "&ins=2"); a.status != 403 {
		t.Errorf("to a peer we do not SSO to: %d", a.status)
	}
	v, err := p.forum.Call(t.Context(), p.mahara.wwwroot.String(), "auth/mnet/auth.php/kill_children", "learner1", "")
	if v != true || err != nil {
		t.Errorf("kill_children: %v, %v", v, err)
	}
	if a := b.get("/view/view.php"); strings.Contains(a.body, "You are logged in") {
		t.Error("the session outlives kill_children")
	}
	v, err = p.home.Call(t.Context(), p.mahara.wwwroot.String(), "auth/mnet/auth.php/kill_children", "learner1", "")
	if v != maharaNoKill || err != nil {
		t.Errorf("kill_children by a site that nobody went to: %v, %v", v, err)
	}
}

func TestNewKeysBetweenAMaharaAndAMoodle(t *testing.T) {
	p := newPortfolio(t, nil)
	b := newBrowser(t, p.home.wwwroot)
	b.login("learner1", "secret")
	b.want(b.get(p.jumpToMahara(b, "/")), 303, p.mahara.wwwroot.String())

	// The home's: the first landing takes the key and is lost.
	p.home.ArchiveKey(newKey(t, p.home.wwwroot.String()))
	if a := b.get(p.jumpToMahara(b, "/")); a.status == 303 || !strings.Contains(a.body, "unknown error occurred: : ") {
		t.Errorf("the first landing with the new key: %d %s", a.status, a.body)
	}
	b.want(b.get(p.jumpToMahara(b, "/")), 303, p.mahara.wwwroot.String())

	// The Mahara's: its call makes the home ask, and it answers 7025, signed
	// with the new key, which a Moodle takes.
	p.mahara.ArchiveKey(newKey(t, p.mahara.wwwroot.String()))
	b.want(b.get(p.jumpToMahara(b, "/")), 303, p.mahara.wwwroot.String())
	if v, err := p.home.Call(t.Context(), p.mahara.wwwroot.String(), "auth/mnet/auth.php/kill_child", "learner1", ""); v != true || err != nil {
		t.Errorf("kill_child: %v, %v", v, err)
	}
}

func TestAMaharasFaults(t *testing.T) {
	old, current := capturedKey(t, "sp"), newKey(t, spName)
	renewed, err := NewMahara(MaharaOptions{Wwwroot: mustWwwroot(t, spName), Key: old, Peers: []*gateway.Peer{capturedPeer(t, homeName, "idp")}})
	if err != nil {
		t.Fatal(err)
	}
	renewed.ArchiveKey(current)
	const endpoint = spName + "/api/xmlrpc/server.php"
	l := layersOf{payload: mnet.EncodeCall("system/listServices"), signer: "idp", at: sentAt}
	unfit, err := mnet.Seal([]byte("<methodCall/>"), capturedKey(t, "stranger").Certificate(), mustWwwroot(t, homeName))
	if err != nil {
		t.Fatal(err)
	}
	strangers, err := mnet.Seal([]byte("<methodCall/>"), capturedKey(t, "stranger").Certificate(), mustWwwroot(t, "http://stranger.test"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		url    string
		doc    []byte
		code   int
		text   string
		sealed bool
	}{
		{"its old key", endpoint, l.wrap(t), mnet.FaultNewKey, current.Certificate().PEM(), true},
		{"no key of its", endpoint, unfit, mnet.FaultNewKey, "We know nothing about the key used to encrypt this message", true},
		{"no key of its, from a stranger", endpoint, strangers, 6003, maharaFault, false},
		{"another host name", "http://elsewhere.test/api/xmlrpc/server.php", l.payload, 6013, maharaFault, false},
		{"no XML", endpoint, []byte("x"), 6001, maharaFault, false},
		{"no call", endpoint, []byte("<x/>"), 6009, maharaFault, false},
		{"a plain call", endpoint, l.payload, 6005, maharaFault, false},
		{"a plain call of nothing", endpoint, mnet.EncodeCall("nothing"), 6010, maharaFault, false},
	} {
		w := record(t, renewed, tt.url, tt.doc)
		got := open(t, w.Code, w.Body.Bytes(), capturedKey(t, "idp"), current.Certificate())
		_, err := mnet.DecodeResponse([]byte(got.Doc))
		fault, ok := errors.AsType[*mnet.Fault](err)
		if !ok || fault.Code != tt.code || fault.String != tt.text || got.Sealed != tt.sealed || got.Signed != tt.sealed {
			t.Errorf("%s: %v, sealed %v, signed %v", tt.name, err, got.Sealed, got.Signed)
		}
	}
	for _, tt := range []struct {
		method string
		params []mnet.Value
		want   mnet.Value
	}{
		{"auth/mnet/auth.php/update_enrolments", []mnet.Value{"a", mnet.Array{}}, true},
		{"auth/mnet/auth.php/keepalive_server", []mnet.Value{mnet.Array{"a"}}, true},
		{"auth/mnet/auth.php/kill_children", []mnet.Value{"a", "b"}, maharaNoKill},
		{"auth/mnet/auth.php/kill_child", []mnet.Value{"a", "b"}, false},
		{"auth/mnet/auth.php/fetch_user_image", []mnet.Value{"a"}, false},
	} {
		_, mahara := callers(t, nil)
		l := layersOf{payload: mnet.EncodeCall(tt.method, tt.params...), signer: "idp", at: sentAt}
		v, err := mnet.DecodeResponse(opened(t, record(t, mahara, endpoint, l.wrap(t)).Body.Bytes()))
		if diff := cmp.Diff(tt.want, v); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tt.method, err, diff)
		}
	}
}

// What a Mahara writes, our own parser reads.
func TestTheMessagesOfAMaharaAreRead(t *testing.T) {
	var sent [][]byte
	_, mahara := callers(t, func(_ string, body []byte) []byte {
		sent = append(sent, body)
		return nil
	})
	params := []mnet.Value{"", "a <b> & \"c\" 'd'\n", true, 7, mnet.Array{}, mnet.Array{"x", mnet.Struct{{Name: "n", Value: ""}}}}
	_, _ = mahara.Call(t.Context(), homeName, "auth/mnet/auth.php/user_authorise", params...)
	sealed, err := mnet.ParseSealed(sent[0])
	if err != nil {
		t.Fatal(err)
	}
	opened, err := sealed.Open(capturedKey(t, "idp"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := mnet.ParseSigned(opened.Plaintext)
	if err != nil {
		t.Fatal(err)
	}
	method, got, err := mnet.DecodeCall(signed.Payload)
	if diff := cmp.Diff(params, got); diff != "" || err != nil || method != "auth/mnet/auth.php/user_authorise" || signed.Wwwroot != spName {
		t.Errorf("%s from %s: %v\n%s", method, signed.Wwwroot, err, diff)
	}
	if !bytes.Contains(sent[0], []byte("<X1>")) || !bytes.Contains(opened.Plaintext, []byte("/api/xmlrpc/publickey.php")) {
		t.Error("these are not Mahara's envelopes")
	}
	for _, call := range [][]byte{maharaCall("system/listServices"), maharaCall("system/keyswap", homeName, "pem")} {
		if _, params, err := mnet.DecodeCall(call); err != nil || len(params) == 1 {
			t.Errorf("%q: %v", params, err)
		}
	}
	// Each byte of a name is a reference of its own.
	v, err := mnet.DecodeResponse(maharaResponse("Zoë"))
	if v != "Zo\u00c3\u00ab" || err != nil || latin1(v) != "Zoë" {
		t.Errorf("%q, %v", v, err)
	}
}

func TestAMaharasLinksInMails(t *testing.T) {
	_, mahara := callers(t, nil)
	want := homeName + "/auth/mnet/jump.php?hostwwwroot=" + spName + "&wantsurl=view%2Fview.php%3Fid%3D3%23c"
	if got := mahara.JumpLink(mustWwwroot(t, homeName), gateway.Moodle, "/view/view.php?id=3#c"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := mahara.JumpLink(mustWwwroot(t, homeName), gateway.Mahara, "/"); !strings.HasPrefix(got, homeName+"/auth/xmlrpc/jump.php?hostwwwroot=") {
		t.Error(got)
	}
}
