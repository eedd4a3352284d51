package moodle

import (
	"strings"
	"testing"
)

func TestLogoutEndsTheSessionOfItsOwnerAlone(t *testing.T) {
	const sso = "https://sso.example/login"
	for name, tt := range map[string]struct {
		moodle   *standIn
		session  string
		userID   int64
		want     string // error
		requests string
	}{
		"the learner's own":                            {&standIn{userID: 3}, testSID, 3, "", "index logout"},
		"of Moodle 4.1":                                {&standIn{userID: 3, before45: true}, testSID, 3, "", "index service logout"},
		"worn by an administrator":                     {&standIn{userID: 3, realUser: 2}, testSID, 3, "the session is user 2's, not user 3's", "index service"},
		"the administrator's who does":                 {&standIn{userID: 3, realUser: 2}, testSID, 2, "", "index service logout"},
		"of another learner":                           {&standIn{userID: 4}, testSID, 3, "the session is user 4's, not user 3's", "index"},
		"that is over":                                 {&standIn{userID: 3}, strings.Repeat("x", 26), 3, "", "index"},
		"that ends in between":                         {&standIn{userID: 3, before45: true, refuse: "servicerequireslogin"}, testSID, 3, "does not say whose", "index service"},
		"that is nobody's":                             {&standIn{}, testSID, 3, "", "index"},
		"behind another login page":                    {&standIn{userID: 3, redirect: sso}, testSID, 3, "", "index logout logout"},
		"behind another login page, of somebody else":  {&standIn{userID: 4, redirect: sso}, testSID, 3, "the session is user 4's, not user 3's", "index logout"},
		"that is over, behind another login page":      {&standIn{userID: 3, redirect: sso}, strings.Repeat("x", 26), 3, "", "index"},
		"that ends before the other page is asked for": {&standIn{redirect: sso}, testSID, 3, "", "index logout"},
		"behind other pages":                           {&standIn{userID: 3, redirect: sso, away: true}, testSID, 3, "logout page: it leads elsewhere", "index logout"},
		"that goes on":                                 {&standIn{userID: 3, staysIn: true}, testSID, 3, "the session goes on: logout.php answered with status 200", "index logout"},
		"of a Moodle in trouble":                       {&standIn{userID: 3, status: 503}, testSID, 3, "login page: status 503", "index"},
		"with an id that is none of PHP":               {&standIn{userID: 3}, "x; MoodleSession=y", 3, "no session id", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := web(t, tt.moodle, nil).Logout(t.Context(), Browser{Session: tt.session}, tt.userID)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), testSID) || strings.Contains(err.Error(), testSesskey)) {
				t.Errorf("the error tells a secret: %v", err)
			}
			var pages []string
			for _, r := range tt.moodle.requests {
				_, page, _ := strings.Cut(strings.TrimSuffix(r.URL.Path, ".php"), "/")
				pages = append(pages, page[strings.LastIndexByte(page, '/')+1:])
				if strings.Contains(page, "logout") && strings.Contains(r.URL.String(), testSesskey) {
					t.Errorf("the address tells the sesskey: %s", r.URL)
				}
			}
			if got := strings.Join(pages, " "); got != tt.requests {
				t.Errorf("asked for %q, want %q", got, tt.requests)
			}
		})
	}
}

func TestLogoutForgetsWhoItWas(t *testing.T) {
	cache := &memory{values: map[string][]byte{}}
	w := web(t, &standIn{userID: 3}, func(o *WebOptions) { o.Cache, o.CacheKey = cache, func() [32]byte { return [32]byte{1} } })
	if _, err := w.Identity(t.Context(), testBrowser); err != nil || len(cache.values) != 1 {
		t.Fatalf("%d remembered, %v", len(cache.values), err)
	}
	if err := w.Logout(t.Context(), testBrowser, 3); err != nil || len(cache.values) != 0 {
		t.Errorf("%d remembered, %v", len(cache.values), err)
	}
}
