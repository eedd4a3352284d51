package main

import (
	"bytes"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"jumpgate/gateway"
	"jumpgate/gateway/link"
)

// fromElsewhere follows a link on another site's page, as a browser says it.
func (v *visitor) fromElsewhere(link string) *visitor {
	v.t.Helper()
	r, err := http.NewRequest("GET", link, nil)
	if err == nil {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	}
	return v.do(r, err)
}

var (
	ticketField = regexp.MustCompile(`name="jump" value="([^"]+)"`)
	formAction  = regexp.MustCompile(`<form method="post" action="([^"]+)">`)
)

// isAsked fails the test unless the page is the one that asks.
func (v *visitor) isAsked(s scene) *visitor {
	v.t.Helper()
	forum, err := url.Parse(s.SP)
	if want := fmt.Sprintf("You are about to enter %s as Ada Lovelace", forum.Host); err != nil || !strings.Contains(v.page, want) {
		v.t.Fatalf("at %s by %q nobody asks:\n%s", v.at, v.hops, v.page)
	}
	return v
}

// says sends the form of the page that asks, from a page of some site.
func (v *visitor) says(from string) *visitor {
	v.t.Helper()
	ticket, action := ticketField.FindStringSubmatch(v.page), formAction.FindStringSubmatch(v.page)
	if ticket == nil || action == nil {
		v.t.Fatalf("no form:\n%s", v.page)
	}
	form := url.Values{"jump": {html.UnescapeString(ticket[1])}}
	r, err := http.NewRequest("POST", html.UnescapeString(action[1]), strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", from)
	}
	return v.do(r, err)
}

// signed is the forum's link to the post, for a user or everybody.
func (f *federation) signed(username string) string {
	f.t.Helper()
	forum := &gateway.Peer{Wwwroot: wwwroot(f.t, f.SP)}
	query, rule := gateway.ParseQuery(f.DeepLink[strings.Index(f.DeepLink, "?")+1:])
	page, allowed := gateway.ParseTarget(forum, query.Wantsurl)
	token, _, err := link.Sign(f.forumKey, link.Link{
		Site: forum.Wwwroot, Home: wwwroot(f.t, f.IDP), Page: page, Username: username, Expires: time.Now().Add(time.Hour),
	})
	if err != nil || rule != gateway.RuleOK || allowed != gateway.RulePath {
		f.t.Fatal(rule, allowed, err)
	}
	return gateway.Signed(f.DeepLink, token)
}

func TestALearnerIsAskedBeforeAForeignPageSendsThemAway(t *testing.T) {
	f := newFederation(t, setting{identity: "{source: moodle-web}", site: "unsigned_jumps: confirm"})
	v := newVisitor(t).fromElsewhere(f.DeepLink)
	v.login(f.Username, f.Password).isAsked(f.scene)
	if n := len(v.hops); n != 0 {
		t.Errorf("the login was answered with %q", v.hops)
	}
	tab := newVisitor(t)
	tab.client.Jar = v.client.Jar
	if tab.follow(f.IDP + "/my/"); tab.at.Path != "/my/" || !strings.Contains(tab.page, "Ada") {
		t.Errorf("to stay led to %s:\n%s", tab.at, tab.page)
	}
	tab.fromElsewhere(f.link("/mod/forum/discuss.php?d=1#p2")).isAsked(f.scene)
	forged := *v
	if forged.says("cross-site"); !strings.Contains(forged.page, "form-foreign") {
		t.Errorf("a foreign page said yes, and the learner is at %s", forged.at)
	}
	again := *v
	v.says("same-origin").reads(f.scene, f.Username)
	if again.says("same-origin").isAsked(f.scene); len(again.hops) != 0 {
		t.Errorf("the second time led to %q", again.hops)
	}
	if tab.says("same-origin"); tab.at.String() != f.SP+"/mod/forum/discuss.php?d=1#p2" {
		t.Errorf("the other tab ended on %s", tab.at)
	}
	v.fromElsewhere(f.DeepLink).reads(f.scene, f.Username)
	v.follow(f.IDP + "/my/")
	stranger := newVisitor(t).fromElsewhere(f.DeepLink).login(f.Username, f.Password)
	stranger.isAsked(f.scene).page = again.page
	if stranger.says("same-origin"); !strings.Contains(stranger.page, "confirm-over") {
		t.Errorf("with another session's page, the answer led to %s", stranger.at)
	}
}

func TestASignedLinkNeedsNoQuestionUntilItIsRevoked(t *testing.T) {
	r := startRedis(t)
	f := newFederation(t, setting{redis: r.url(), identity: "{source: moodle-web}", site: "unsigned_jumps: refuse"})
	mine := f.signed(f.Username)
	v := newVisitor(t).fromElsewhere(mine).login(f.Username, f.Password)
	v.reads(f.scene, f.Username)
	v.fromElsewhere(mine).reads(f.scene, f.Username)
	v.fromElsewhere(f.signed("")).isAsked(f.scene)
	v.fromElsewhere(f.signed("bob")).isAsked(f.scene)
	v.follow(f.IDP + "/").fromElsewhere(f.DeepLink + "&link=x.y.z")
	if !strings.Contains(v.page, "signature-malformed") {
		t.Errorf("a damaged token led to %s", v.at)
	}
	if v.fromElsewhere(f.DeepLink); !strings.Contains(v.page, "unsigned") || !strings.HasPrefix(v.at.String(), f.IDP+"/") {
		t.Errorf("without a signature the link led to %s", v.at)
	}

	var out, errs bytes.Buffer
	term := &terminal{ctx: t.Context(), stdout: &out, stderr: &errs}
	if code := term.run([]string{"link", "revoke", "-c", f.config.File, mine}); code != 0 || !strings.Contains(out.String(), "is revoked until") || errs.Len() > 0 {
		t.Fatalf("%d: %s%s", code, &out, &errs)
	}
	if v.fromElsewhere(mine); !strings.Contains(v.page, "signature-revoked") {
		t.Errorf("the revoked link led to %s", v.at)
	}
	if log := f.log.String(); !strings.Contains(log, "signature=signature-revoked link=") || !strings.Contains(log, "origin=cross-site signature=ok") {
		t.Errorf("the log does not say so:\n%s", log)
	}
}

// TestThePageThatAsksInABrowser begins on a page of another site and shows that
// a browser lets the form lead to us and from here to the forum.
func TestThePageThatAsksInABrowser(t *testing.T) {
	ctx := browser(t)
	f := newFederation(t, setting{identity: "{source: moodle-web}", site: "unsigned_jumps: confirm"})
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<a id="link" href="%s">A post</a>`, html.EscapeString(f.DeepLink))
	}))
	defer elsewhere.Close()
	click := chromedp.Steps(chromedp.Navigate(elsewhere.URL), chromedp.Click(chromedp.CSS("#link")))
	if err := chromedp.Do(ctx, click, fillIn(f.scene), chromedp.WaitVisible(chromedp.CSS("button.main"))); err != nil {
		t.Fatal(err)
	}
	want := f.SP + "/mod/forum/discuss.php?d=1#p3"
	if at, text := arrive(t, ctx, "p3", chromedp.Click(chromedp.CSS("button.main"))); at != want || !strings.Contains(text, "Logged in as "+f.Username) {
		t.Errorf("ended on %s:\n%s", at, text)
	}
	if at, _ := arrive(t, ctx, "p3", click); at != want {
		t.Errorf("the second click ended on %s", at)
	}
}
