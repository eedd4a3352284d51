package mnet

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestASiteIsNamedAfterItsTitle(t *testing.T) {
	for page, want := range map[string]string{
		"<!DOCTYPE html><html><head><title>Home | The Forum</title></head>": "Home | The Forum",
		"<TITLE\n lang=en> A\n  B &amp; <b>C</b>\t</TITLE>":                 "A B & <b>C</b>",
		"<title></title><title>second</title>":                              "second",
		"<title>\u202eevil\u200b\x00\x1b[1m\xff</title>":                    "evil [1m",
		"<title>" + strings.Repeat("ü", 300) + "</title>":                   strings.Repeat("ü", 100),
		"<script>var x = '<title>no</title>'</script><title>yes</title>":    "yes",
		"<!-- <title>no</title> --><svg><title>a picture</title></svg>":     "a picture",
		"<title>cut off":         "cut off",
		"no page":                "",
		"":                       "",
		"<title":                 "",
		strings.Repeat("<", 1e6): "",
		strings.Repeat(" ", maxPage) + "<title>far below</title>": "",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) }))
		got, err := newClient(t).Title(t.Context(), wwwroot(t, server.URL))
		server.Close()
		if got != want || err != nil {
			t.Errorf("%.60q: %q, %v; want %q", page, got, err, want)
		}
	}
}

func TestARedirectOfASiteIsFollowedWithinItAlone(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, _ := strings.CutPrefix(r.URL.Path, "/to/")
		to = strings.TrimSuffix(to, "/")
		switch {
		case r.URL.Path == "/page":
			fmt.Fprint(w, "<title>page</title>")
		case to == "login": // inside first, then to somebody who logs people in
			http.Redirect(w, r, "/to/sso?x=1", http.StatusSeeOther)
		case to == "inside":
			http.Redirect(w, r, "/page", http.StatusSeeOther)
		case to == "round":
			http.Redirect(w, r, r.URL.Path, http.StatusSeeOther)
		case to == "sso":
			http.Redirect(w, r, other.URL+"/login?to=x", http.StatusSeeOther)
		case to == "odd":
			http.Redirect(w, r, other.URL+"/%1b[1m", http.StatusMovedPermanently)
		case to == "other":
			http.Redirect(w, r, other.URL+"/moodle/index.php", http.StatusMovedPermanently)
		}
	}))
	defer site.Close()
	for _, c := range []struct{ path, want, moved string }{
		{"/to/inside", "page", ""},
		{"/to/round", "", ""},
		{"/to/login", "", ""},
		{"/to/sso", "", ""},
		{"/to/other", "", other.URL + "/moodle"},
		{"/to/odd", "", "nowhere"},
	} {
		got, err := newClient(t).Title(t.Context(), wwwroot(t, site.URL+c.path))
		moved, isMoved := errors.AsType[*MovedError](err)
		if got != c.want || isMoved != (c.moved != "") || !isMoved && err != nil || isMoved && moved.To.String() != strings.TrimSuffix(c.moved, "nowhere") {
			t.Errorf("%s: %q, %v", c.path, got, err)
		}
	}
	if reached {
		t.Error("another site was asked")
	}
}
