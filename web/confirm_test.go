package web_test

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"jumpgate/gateway"
	"jumpgate/idp"
	"jumpgate/web"
)

func asking(o *idp.Options) {
	o.Unsigned, o.Confirmations = gateway.UnsignedConfirm, func() [][32]byte { return [][32]byte{{2}} }
}

func from(site string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", site) }
}

var hidden = regexp.MustCompile(`name="jump" value="([^"]+)"`)

func answering(page string) func(*http.Request) {
	ticket := ""
	if found := hidden.FindStringSubmatch(page); found != nil {
		ticket = html.UnescapeString(found[1])
	}
	return func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Body = io.NopCloser(strings.NewReader(url.Values{"jump": {ticket}}.Encode()))
	}
}

func TestThePageThatAsks(t *testing.T) {
	f := newFront(t, "https://home.test/moodle", asking)
	const jump, confirm = "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x", "https://home.test/moodle/jumpgate/confirm"
	w := f.do("GET", jump, asAda, from("cross-site"))
	page := w.Body.String()
	if w.Code != 200 || len(w.Header()["Set-Cookie"]) != 0 {
		t.Fatalf("%d %v\n%s", w.Code, w.Header(), page)
	}
	for _, want := range []string{
		"<h1>You are about to enter sp.test as Ada Lovelace</h1>", `<form method="post" action="https://home.test/moodle/jumpgate/confirm">`,
		`<a class="button" href="https://home.test/moodle/">Stay</a>`, "https://sp.test/mod/x", "<button",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "ZgotmplZ") || strings.Contains(page, adas) {
		t.Errorf("the page:\n%s", page)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "; form-action 'self' https://sp.test; frame-ancestors 'none'") || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("policy %s", policy)
	}

	for who, headers := range map[string][]string{
		"another site":                         {"Sec-Fetch-Site", "cross-site"},
		"a neighbour":                          {"Sec-Fetch-Site", "same-site"},
		"another site in an older browser":     {"Origin", "https://evil.test"},
		"a sandboxed page in an older browser": {"Origin", "null"},
	} {
		w := f.do("POST", confirm, asAda, answering(page), func(r *http.Request) { r.Header.Set(headers[0], headers[1]) })
		if w.Code != 403 || !strings.Contains(w.Body.String(), "form-foreign") {
			t.Errorf("the answer of %s: %d", who, w.Code)
		}
	}
	for _, method := range []string{"GET", "HEAD", "PUT"} {
		if w := f.do(method, confirm, asAda, from("same-origin")); w.Code != 405 || w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
	if w := f.do("POST", confirm+"/x", asAda, from("same-origin"), answering(page)); w.Code != 404 || strings.Contains(w.Body.String(), "upstream") {
		t.Errorf("below it: %d", w.Code)
	}
	w = f.do("POST", confirm, asAda, from("same-origin"), answering(page))
	if to := w.Header().Get("Location"); w.Code != 303 || !strings.HasPrefix(to, "https://sp.test/auth/mnet/land.php?token=") || w.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("the answer: %d %v", w.Code, w.Header())
	}
	cookie, err := http.ParseSetCookie(w.Header().Get("Set-Cookie"))
	if err != nil || !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.MaxAge != 30*24*3600 {
		t.Fatalf("cookie %v, %v", cookie, err)
	}
	w = f.do("GET", jump, asAda, from("cross-site"), func(r *http.Request) { r.AddCookie(cookie) })
	if w.Code != 303 {
		t.Errorf("the next click: %d", w.Code)
	}
	log := f.log.String()
	for _, want := range []string{
		"step=jump outcome=confirm rule=path", "step=confirm outcome=landed rule=path", "origin=cross-site", "outcome=refused rule=form-foreign",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

func TestANameCannotWriteThePageThatAsks(t *testing.T) {
	f := newFront(t, "https://home.test", asking, func(o *idp.Options) {
		peers, err := gateway.NewAllowlist(&gateway.Peer{
			Wwwroot: wwwroot(t, "https://sp.test:8443/forum"), HostID: 3, Application: gateway.Moodle, Name: `<b>"The" Forum`,
			Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Peers = peers
	})
	w := f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl="+url.QueryEscape(`/x?"><script>`), asAda, from("cross-site"))
	page := w.Body.String()
	if w.Code != 200 || strings.Contains(page, "<b>") || strings.Contains(page, "<script") || !strings.Contains(page, "enter sp.test:8443/forum as Ada") || !strings.Contains(page, "&lt;b&gt;&#34;The&#34; Forum") {
		t.Errorf("%d\n%s", w.Code, page)
	}
	if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' https://sp.test:8443;") {
		t.Errorf("policy %s", policy)
	}
}

func TestWhereClicksComeFromIsCountedWithinBounds(t *testing.T) {
	f := newFront(t, "https://home.test")
	for _, site := range []string{"cross-site", "none", "anything", "x-1", "x-2"} {
		f.do("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x", asAda, from(site))
	}
	w := httptest.NewRecorder()
	web.NewAdmin(f.metrics, func() string { return "" }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	metrics := w.Body.String()
	for _, want := range []string{
		`jumpgate_jump_origins_total{origin="cross-site",signature="",site="https://home.test"} 4`,
		`jumpgate_jump_origins_total{origin="none",signature="",site="https://home.test"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if n := strings.Count(metrics, "jumpgate_jump_origins_total{"); n != 2 {
		t.Errorf("%d series", n)
	}
}
