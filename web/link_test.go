package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"jumpgate/gateway"
)

func TestLinksForPeopleWhoWriteMails(t *testing.T) {
	b := newBouncing(t, false, homePeer(t, "https://a.test", "College A"), homePeer(t, "https://b.test/moodle", `"B" & <C>`),
		&gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test"), Application: gateway.Moodle})
	b.site.Bounces = nil // the links are there all the same
	ask := func(query, accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "https://home.test/jumpgate/link"+query, nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		return w
	}
	link := func(home string) string {
		return home + "/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fhome.test&wantsurl=%2Fmod%2Fx%3Fd%3D1%26a%3D%2525%23p3"
	}
	const page = "?url=https%3A%2F%2Fhome.test%2Fmod%2Fx%3Fd%3D1%26a%3D%2525%23p3"
	for _, test := range []struct{ name, query, want string }{
		{"all homes", page, link("https://b.test/moodle") + "\n" + link("https://a.test") + "\n"},
		{"one home", page + "&home=https://b.test/moodle", link("https://b.test/moodle") + "\n"},
		{"one home in another spelling", page + "&home=A.test", link("https://a.test") + "\n"},
		{"a path", "?home=a.test&url=" + url.QueryEscape("/mod/x?d=1&a=%25#p3"), link("https://a.test") + "\n"},
		{"a page of an alias", "?home=a.test&url=" + url.QueryEscape("https://old.test/mod/x?d=1&a=%25#p3"), link("https://a.test") + "\n"},
	} {
		w := ask(test.query, "text/plain")
		if w.Code != 200 || w.Body.String() != test.want || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %v\n%s", test.name, w.Code, w.Header(), w.Body)
		}
		html := ask(test.query, "text/html,text/plain;q=0.5").Body.String()
		for link := range strings.Lines(test.want) {
			link = strings.ReplaceAll(strings.TrimSpace(link), "&", "&amp;")
			if !strings.Contains(html, `<a href="`+link+`">`+link+"</a>") {
				t.Errorf("%s: the page lacks %s:\n%s", test.name, link, html)
			}
		}
		if strings.Contains(html, "<C>") || strings.Contains(html, "ZgotmplZ") || strings.Contains(html, "sp.test") || strings.Contains(html, "link=") {
			t.Errorf("%s:\n%s", test.name, html)
		}
	}
	for _, test := range []struct {
		name, query string
		code        int
	}{
		{"another site's page", "?url=https://evil.test/x", 400},
		{"no page", "?url=", 400},
		{"nothing", "", 400},
		{"a trick", "?url=//evil.test", 400},
		{"a script", "?url=" + url.QueryEscape("/x<script>\n"), 400},
		{"somebody who is no home", page + "&home=https://sp.test", 404},
		{"somebody unknown", page + "&home=https://evil.test", 404},
		{"an empty home", page + "&home=", 404},
		{"our own login provider", page + "&home=javascript:alert(1)", 404},
	} {
		w := ask(test.query, "text/plain")
		if w.Code != test.code || strings.Contains(w.Body.String(), "evil") || strings.Contains(w.Body.String(), "<script") || w.Header().Get("Location") != "" {
			t.Errorf("%s: %d\n%s", test.name, w.Code, w.Body)
		}
	}
	form := ask("", "text/html")
	if form.Code != 200 || !strings.Contains(form.Body.String(), `<form class="search" method="get" action="https://home.test/jumpgate/link">`) {
		t.Errorf("without a page: %d\n%s", form.Code, form.Body)
	}
	if w := ask("?url="+url.QueryEscape("/x\"><b>#<i>"), "text/html"); w.Code != 200 || strings.Contains(w.Body.String(), "<i>") || strings.Contains(w.Body.String(), `"><b>`) {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	if policy := form.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self';") || strings.Contains(policy, "script") {
		t.Errorf("policy %s", policy)
	}
	r := httptest.NewRequest("POST", "https://home.test/jumpgate/link"+page, http.NoBody)
	w := httptest.NewRecorder()
	if b.ServeHTTP(w, r); w.Code != 405 {
		t.Errorf("a POST: %d", w.Code)
	}
}

func TestWhereNobodyHasAnotherHomeThereAreNoLinks(t *testing.T) {
	b := newBouncing(t, false, &gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test"), Application: gateway.Moodle, Subscribe: []string{gateway.ServiceSSOSP}})
	if w := b.ask("https://home.test/jumpgate/link?url=/x"); w.Code != 404 {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
}
