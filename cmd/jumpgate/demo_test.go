package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// startDemo runs the demo on free ports and returns what it prints.
func startDemo(t *testing.T) scene {
	t.Helper()
	dir := t.TempDir() // which is removed when the demo has ended
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		term := &terminal{ctx: ctx, stdin: strings.NewReader(""), stdout: in, stderr: &stderr}
		ended <- term.run([]string{"demo", "--idp-port", "0", "--sp-port", "0", "--json", "--state-dir", dir})
		in.Close()
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("the demo ended with %d: %s", code, &stderr)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the demo said nothing: %v; %s", err, &stderr)
	}
	var s scene
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatalf("the demo said %s: %v", line, err)
	}
	return s
}

// visitor is a browser without script: it keeps cookies, follows redirects
// and remembers them.
type visitor struct {
	t      *testing.T
	client *http.Client
	hops   []string // Location headers since the last page
	page   string
	at     *url.URL

	userAgent string // of another browser than usual
}

func newVisitor(t *testing.T) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t}
	v.client = &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		v.hops = append(v.hops, r.URL.String())
		return nil
	}}
	return v
}

func (v *visitor) do(r *http.Request, err error) *visitor {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("User-Agent", cmp.Or(v.userAgent, "Mozilla/5.0 (visitor)"))
	v.hops = nil
	res, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.page, v.at = string(page), res.Request.URL
	return v
}

func (v *visitor) follow(link string) *visitor {
	v.t.Helper()
	return v.do(http.NewRequest("GET", link, nil))
}

var loginToken = regexp.MustCompile(`name="logintoken" value="([^"]+)"`)

// login sends the login form of the page that is shown.
func (v *visitor) login(username, password string) *visitor {
	v.t.Helper()
	token := loginToken.FindStringSubmatch(v.page)
	if token == nil {
		v.t.Fatalf("%s shows no login form", v.at)
	}
	form := url.Values{"username": {username}, "password": {password}, "logintoken": {token[1]}}
	from := v.at
	r, err := http.NewRequest("POST", from.ResolveReference(&url.URL{Path: "/login/index.php"}).String(), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Referer", from.String())
	return v.do(r, err)
}

var tags = regexp.MustCompile(`<[^>]*>`)

// reads fails the test unless the page that is shown is the post, logged in.
func (v *visitor) reads(s scene, username string) {
	v.t.Helper()
	if want := s.SP + "/mod/forum/discuss.php?d=1#p3"; v.at.String() != want {
		v.t.Fatalf("ended on %s, want %s", v.at, want)
	}
	if !strings.Contains(v.page, `id="p3"`) || !strings.Contains(tags.ReplaceAllString(v.page, ""), "Logged in as "+username) {
		v.t.Fatalf("the page is not the post for %s:\n%s", username, v.page)
	}
}

// redirectsFrom counts the redirects that a site sent on the way.
func (v *visitor) redirectsFrom(start, site string) int {
	n := 0
	for _, hop := range append([]string{start}, v.hops...)[:len(v.hops)] {
		if strings.HasPrefix(hop, site+"/") {
			n++
		}
	}
	return n
}

func TestAForumDeepLinkLandsInOneHop(t *testing.T) {
	s := startDemo(t)
	v := newVisitor(t).follow(s.DeepLink)
	if v.redirectsFrom(s.DeepLink, s.IDP) != 1 || !strings.HasPrefix(v.at.String(), s.IDP+"/login/index.php") {
		t.Fatalf("an anonymous click led to %s by %q", v.at, v.hops)
	}
	form := v.at.String()
	v.login(s.Username, "wrong")
	if v.at.Path != "/login/index.php" || !strings.Contains(v.page, "Invalid login") {
		t.Fatalf("a wrong password led to %s", v.at)
	}
	v.login(s.Username, s.Password).reads(s, s.Username)
	if n := v.redirectsFrom(form, s.IDP); n != 1 {
		t.Errorf("the login was answered with %d redirects of the home site: %q", n, v.hops)
	}
	if !strings.Contains(v.page, "2 redirects: 1 from home, 1 from the forum.") {
		t.Errorf("the page counts the redirects otherwise")
	}

	v.follow(s.DeepLink).reads(s, s.Username)
	if n := v.redirectsFrom(s.DeepLink, s.IDP); n != 1 || len(v.hops) != 2 {
		t.Errorf("logged in, the click took %q", v.hops)
	}

	forum, err := url.Parse(s.SP)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range v.client.Jar.Cookies(forum) {
		names = append(names, c.Name)
	}
	if !strings.Contains(strings.Join(names, " "), "jumpgate-home-") {
		t.Errorf("the forum's gateway does not remember the home: %q", names)
	}
}

func TestAMailOfEachSiteIsOnTheHomePage(t *testing.T) {
	s := startDemo(t)
	v := newVisitor(t).follow(s.IDP + "/")
	for _, sp := range s.SPs {
		if want := strings.ReplaceAll(sp.DeepLink, "&", "&amp;"); !strings.Contains(v.page, `href="`+want+`"`) {
			t.Errorf("the front page lacks the link %s:\n%s", want, v.page)
		}
	}
}

// TestTheSameDeepLinkLandsAtEachSiteOfTheDemo goes from one to the next in one
// browser: whoever lands keeps what they have elsewhere.
func TestTheSameDeepLinkLandsAtEachSiteOfTheDemo(t *testing.T) {
	s := startDemo(t)
	var landings []string
	v := newVisitor(t).follow(s.IDP+"/login/index.php").login(s.Username, s.Password)
	for range 2 {
		landings = nil
		for _, sp := range s.SPs {
			landings = append(landings, sp.Landing)
			if v.follow(sp.DeepLink); v.at.String() != sp.post("p3") || len(v.hops) != 2 {
				t.Fatalf("%s: ended on %s after %q, want %s:\n%s", sp.Landing, v.at, v.hops, sp.post("p3"), v.page)
			}
			who := sp.account(s, s.Username)
			for _, want := range []string{`id="p3"`, "Logged in as " + who, "2 redirects: 1 from home, 1 from the forum."} {
				if !strings.Contains(tags.ReplaceAllString(v.page, ""), want) && !strings.Contains(v.page, want) {
					t.Errorf("%s: the page lacks %q:\n%s", sp.Landing, want, v.page)
				}
			}
		}
	}
	if want := []string{"moodle", "header", "oauth2", "jwt"}; !slices.Equal(landings, want) {
		t.Errorf("the landings are %q, want %q", landings, want)
	}
	if s.SPs[0] != (provider{Wwwroot: s.SP, Landing: "moodle", DeepLink: s.DeepLink}) {
		t.Errorf("the first one is %+v", s.SPs[0])
	}
}

// post is the address at a service provider of a post of the discussion.
func (sp provider) post(id string) string { return sp.Wwwroot + discussion + "#" + id }

// account is what a service provider calls a learner of the home.
func (sp provider) account(s scene, username string) string {
	if sp.Landing == "moodle" {
		return username
	}
	return username + "@" + strings.Replace(strings.TrimPrefix(s.IDP, "http://"), ":", "_-3a-", 1)
}

func TestTwoTabsOfTheDemoBothArrive(t *testing.T) {
	s := startDemo(t)
	first, second := newVisitor(t), newVisitor(t)
	second.client.Jar = first.client.Jar // one browser, two tabs
	first.follow(s.DeepLink)
	second.follow(strings.Replace(s.DeepLink, "%23p3", "%23p2", 1))
	first.login(s.Username, s.Password).reads(s, s.Username)
	// Moodle answers a form sent when somebody is logged in with a page that
	// says so: that is where the second tab's jump takes place.
	second.login(s.Username, s.Password)
	if want := s.SP + "/mod/forum/discuss.php?d=1#p2"; second.at.String() != want {
		t.Errorf("the second tab ended on %s, want %s", second.at, want)
	}
}

func TestNoRedirectOfTheDemoLeavesTheAllowlist(t *testing.T) {
	s := startDemo(t)
	v := newVisitor(t)
	v.follow(s.DeepLink).login(s.Username, s.Password)
	for _, change := range []func(url.Values){
		func(q url.Values) { q.Set("hostwwwroot", "https://evil.test") },
		func(q url.Values) { q.Set("hostwwwroot", s.SP+".evil.test") },
		func(q url.Values) { q.Set("wantsurl", "//evil.test") },
		func(q url.Values) { q.Set("wantsurl", `/\evil.test`) },
		func(q url.Values) { q.Set("wantsurl", "@evil.test") },
		func(q url.Values) { q.Add("wantsurl", "/") },
	} {
		u, err := url.Parse(s.DeepLink)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		if v.follow(u.String()); len(v.hops) != 0 || strings.Contains(v.page, "evil") {
			t.Errorf("%s led to %q:\n%s", u, v.hops, v.page)
		}
	}
}
