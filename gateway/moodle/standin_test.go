package moodle

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	testSesskey = "YuveCacqCC"
	testToken   = "0123456789abcdef0123456789abcdef"
)

// standIn answers the pages and web services that Web asks, as Moodle does,
// for one session. Its zero fields are a logged-in learner of Moodle 4.5.
type standIn struct {
	userID    int64  // $USER->id, 0 for nobody
	realUser  int64  // who wears the account, if anybody
	before45  bool   // M.cfg without userId
	noMarkers bool   // a page on which "login as" does not show
	redirect  string // the login page's Location
	away      bool   // the logout page leads there too
	page      string // the login page, if not Moodle's
	status    int    // of the login page
	refuse    string // error code of every AJAX call
	refuseAll bool   // as an object instead of a list
	ajax      string // answer of every AJAX call
	rest      string // answer of every REST call
	staysIn   bool   // the logout page only asks

	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

// records are what core_user_get_users_by_field tells, as recorded.
var records = map[int64]string{
	3: `{"id":3,"username":"learner1","firstname":"Lena","lastname":"Lerner","fullname":"Lena Lerner","email":"learner1@idp.test","department":"","firstaccess":1795335006,"lastaccess":1795337797,"auth":"manual","suspended":false,"confirmed":true,"lang":"en","theme":"","timezone":"99","mailformat":1,"trackforums":0,"city":"Berlin","country":"DE","profileimageurl":"http://idp.test:8080/pluginfile.php/11/user/icon/boost/f1?rev=10"}`,
	4: `{"id":4,"username":"learner1","firstname":"Lena","lastname":"Lerner","email":"learner1@idp.test","auth":"mnet","suspended":false,"lang":"en","timezone":"99","mailformat":1}`,
	5: `{"id":5,"username":"louis","firstname":"Louis","lastname":"Leclerc","email":"louis@idp.test","auth":"manual","suspended":true,"mailformat":"0"}`,
}

func (s *standIn) start(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.StripPrefix("/moodle", s))
	t.Cleanup(server.Close)
	return server
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body strings.Builder
	if _, err := fmt.Fprint(&body, readAll(r)); err != nil {
		panic(err)
	}
	s.mu.Lock()
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, body.String())
	s.mu.Unlock()
	cookie, _ := r.Cookie("MoodleSession")
	owned := cookie != nil && cookie.Value == testSID
	switch r.URL.Path {
	case "/login/index.php":
		s.loginPage(w, owned)
	case "/lib/ajax/service.php":
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = fmt.Fprint(w, s.ajaxAnswer(r, owned, body.String()))
	case "/login/logout.php":
		s.logoutPage(w, r, owned, body.String())
	case "/webservice/rest/server.php":
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, s.restAnswer(r, body.String()))
	default:
		http.NotFound(w, r)
	}
}

func readAll(r *http.Request) string {
	var b strings.Builder
	buf := make([]byte, 1024)
	for {
		n, err := r.Body.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

func (s *standIn) loginPage(w http.ResponseWriter, owned bool) {
	userID := s.userID
	if !owned {
		userID = 0
		http.SetCookie(w, &http.Cookie{Name: "MoodleSession", Value: "nqko2rp6r8dv3ateg59ehluhtb"})
	}
	switch {
	case s.redirect != "":
		w.Header().Set("Location", s.redirect)
		w.WriteHeader(http.StatusSeeOther)
		return
	case s.status != 0:
		w.WriteHeader(s.status)
	}
	if s.page != "" {
		_, _ = fmt.Fprint(w, s.page)
		return
	}
	_, _ = fmt.Fprint(w, s.page45(userID))
}

func (s *standIn) logoutPage(w http.ResponseWriter, r *http.Request, owned bool, body string) {
	switch {
	case s.away:
		w.Header().Set("Location", s.redirect)
		w.WriteHeader(http.StatusSeeOther)
		return
	case owned && s.userID != 0 && (r.Method != http.MethodPost || body != "sesskey="+testSesskey || s.staysIn): // asks
		_, _ = fmt.Fprint(w, s.page45(s.userID))
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "MoodleSession", Value: "nqko2rp6r8dv3ateg59ehluhtb"})
	w.Header().Set("Location", "http://idp.test:8080/moodle/")
	w.WriteHeader(http.StatusSeeOther)
}

// page45 is the login page with all that core puts into every theme's pages.
func (s *standIn) page45(userID int64) string {
	user, classes, info := fmt.Sprintf(`,"siteId":1,"userId":%d`, userID), "", `You are not logged in.`
	if s.before45 {
		user = ""
	}
	if userID == 0 {
		classes = " notloggedin"
	} else {
		info = `You are logged in as <a href="http://idp.test:8080/moodle/user/profile.php?id=3" title="View profile">Lena Lerner</a> (<a href="http://idp.test:8080/moodle/login/logout.php?sesskey=` + testSesskey + `">Log out</a>)`
	}
	if s.realUser != 0 && !s.noMarkers {
		classes = " userloggedinas"
		info = ` [<a href="http://idp.test:8080/moodle/course/loginas.php?id=1&amp;sesskey=` + testSesskey + `"title ="Log in as">Admin User</a>] ` + info
	}
	return `<!DOCTYPE html>

<html  dir="ltr" lang="en" xml:lang="en">
<head>
    <title>Log in to the site | IDP</title>
    <meta http-equiv="Content-Type" content="text/html; charset=utf-8" />
<script>
//<![CDATA[
var M = {}; M.yui = {};
M.pageloadstarttime = new Date();
M.cfg = {"wwwroot":"http:\/\/idp.test:8080\/moodle","homeurl":{},"sesskey":"` + testSesskey + `","sessiontimeout":"28800","theme":"boost","admin":"admin","courseId":1,"contextid":1` + user + `};var yui1ConfigFn = function(me) {if(/-skin|reset|fonts|grids|base/.test(me.name)){me.type='css'}};
//]]>
</script>
</head>
<body  id="page-login-index" class="format-site  path-login chrome dir-ltr lang-en yui-skin-sam yui3-skin-sam idp-test--8080--moodle pagelayout-login course-1 context-1` + classes + `">
<div class="logininfo">` + info + `</div>
</body>
</html>`
}

func (s *standIn) ajaxAnswer(r *http.Request, owned bool, body string) string {
	var calls []struct {
		Index      int
		MethodName string
		Args       struct {
			Field  string
			Values []string
		}
	}
	if err := json.Unmarshal([]byte(body), &calls); err != nil {
		return `{"error":"Coding error detected, it must be fixed by a programmer: Invalid json","errorcode":"codingerror","stacktrace":null}`
	}
	refuse := s.refuse
	switch {
	case s.ajax != "":
		return s.ajax
	case !owned || s.userID == 0:
		refuse = "servicerequireslogin"
	case r.URL.Query().Get("sesskey") != testSesskey:
		refuse = "invalidsesskey"
	}
	if refuse != "" && s.refuseAll {
		return `{"error":"No.","errorcode":"` + refuse + `","stacktrace":null,"debuginfo":null,"reproductionlink":null}`
	}
	var answers []string
	for _, call := range calls {
		data := ""
		switch {
		case refuse != "":
			return `[` + strings.Join(append(answers, `{"error":true,"exception":{"message":"No.","errorcode":"`+refuse+`","link":"","moreinfourl":""}}`), ",") + `]`
		case call.MethodName == "core_session_time_remaining":
			owner := max(s.realUser, 0)
			if owner == 0 {
				owner = s.userID
			}
			if owner == 1 {
				owner = 0 // guests have no time
			}
			data = fmt.Sprintf(`{"userid":%d,"timeremaining":28800}`, owner)
		case call.MethodName == "core_user_get_users_by_field" && call.Args.Field == "id":
			var found []string
			for _, v := range call.Args.Values {
				id, _ := strconv.ParseInt(v, 10, 64)
				if record, ok := records[id]; ok && id == s.userID { // oneself
					found = append(found, record)
				}
			}
			data = "[" + strings.Join(found, ",") + "]"
		}
		answers = append(answers, `{"error":false,"data":`+data+`}`)
	}
	return "[" + strings.Join(answers, ",") + "]"
}

func (s *standIn) restAnswer(r *http.Request, body string) string {
	if s.rest != "" {
		return s.rest
	}
	r.Body = http.NoBody
	form := "?" + body
	for _, part := range []string{"wstoken=" + testToken, "wsfunction=core_user_get_users_by_field", "moodlewsrestformat=json", "field=id"} {
		if !strings.Contains(form, part) {
			return `{"exception":"core\\exception\\moodle_exception","errorcode":"invalidtoken","message":"Invalid token - token not found"}`
		}
	}
	for id, record := range records {
		if strings.Contains(form, fmt.Sprintf("values%%5B0%%5D=%d", id)) {
			return "[" + record + "]"
		}
	}
	return "[]"
}
