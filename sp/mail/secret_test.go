package mail_test

import (
	"strings"
	"testing"
)

// What a stock Moodle 4.5 mails that is for its reader alone, or for people
// without a login (source), and what third-party plugins do alike.
func TestLinksWithSecretsAreShownToNoOtherSite(t *testing.T) {
	const hex = "0123456789abcdef0123456789ABCDEF"
	tests := map[string]bool{ // whether it jumps
		"/mod/forum/discuss.php?d=12#p34":                     true,
		"/mod/forum/discuss.php?d=12&parent=34":               true,
		"/mod/forum/subscribe.php?id=3&d=12":                  true,
		"/mod/forum/post.php?reply=34":                        true,
		"/mod/forum/index.php?id=2":                           true,
		"/mod/assign/view.php?id=7&action=grading":            true,
		"/message/index.php?id=5":                             true,
		"/message/notificationpreferences.php":                true,
		"/pluginfile.php/55/mod_forum/attachment/9/a%20b.pdf": true,
		"/calendar/view.php?view=day&time=1700000000":         true,
		"/user/view.php?id=5&course=2":                        true,
		"/grade/report/user/index.php?id=2":                   true,
		"/loginless/page.php":                                 true,
		"/course/view.php?name=token":                         true,
		"/mod/glossary/view.php?id=3&mode=search&hook=key":    true,
		"/": true,
		"/login/forgot_password.php?token=abcDEF0123456789":                      false,
		"/login/confirm.php?data=abcDEF0123456789/ada%2Elovelace":                false,
		"/login/confirm.php?redirect=https%3A%2F%2Fa.test&data=abc/ad":           false,
		"/login/unlock_account.php?u=5&s=abcDEF0123456789":                       false,
		"/login/change_password.php":                                             false,
		"/login/index.php":                                                       false,
		"/login/":                                                                false,
		"/login":                                                                 false,
		"/LOGIN/confirm.php?data=x":                                              false,
		"/%6cogin/confirm.php?data=x":                                            false,
		"/mod/../login/confirm.php?data=x":                                       false,
		"/user/emailupdate.php?key=abcDEF0123456789&id=5":                        false,
		"/auth/oauth2/confirm-account.php?token=x&username=ada":                  false,
		"/auth/oauth2/confirm-linkedlogin.php?token=x&userid=5":                  false,
		"/admin/tool/mfa/factor/email/email.php?instance=3&pass=1&secret=123456": false,
		"/admin/tool/mobile/autologin.php?userid=5&key=abc":                      false,
		"/tokenpluginfile.php/abcDEF0123456789/55/mod_forum/post/9/a.png":        false,
		"/webservice/pluginfile.php/55/mod_forum/attachment/9/a.pdf?x=1":         false,
		"/rss/file.php/55/abcDEF0123456789/mod_forum/3/rss.xml":                  false,
		"/calendar/export_execute.php?userid=5&authtoken=abc&preset_what=all":    false,
		"/mod/bigbluebuttonbn/guest.php?uid=abcDEF0123":                          false,
		"/badges/backpackemailverify.php?data=abcDEF0123":                        false,
		"/badges/badge.php?hash=abc":                                             false,
		"/grade/export/ods/dump.php?id=2&key=abc":                                false,
		"/grade/import/xml/fetch.php?id=2&key=abc":                               false,
		"/course/view.php?id=2&sesskey=abc":                                      false,
		"/course/view.php?id=2&amp;sesskey=abc":                                  false,
		"/course/view.php?id=2;sesskey=abc":                                      false,
		"/course/view.php?id=2&ses%73key=abc":                                    false,
		"/course/view.php?id=2#wstoken=abc":                                      false,
		"/enrol/invitation/enrol.php?token=abc":                                  false,
		"/local/news/unsubscribe.php?u=5&invite_token%5B%5D=abc":                 false,
		"/local/news/unsubscribe.php?u=5&h=" + hex:                               false,
		"/local/news/" + hex + "/unsubscribe":                                    false,
		"/local/news/view.php?password=abc":                                      false,
		"/jumpgate/confirm?x=1":                                                  false,
	}
	for page, jumps := range tests {
		link := "https://forum.example.net" + page
		out, result := rewrite(t, []byte("Subject: x\r\n\r\nSee "+link+" now\r\n"))
		if want := map[bool]int{true: 1}[jumps]; result.Links != want {
			t.Errorf("text, %s: %d links", page, result.Links)
		}
		if !jumps && !strings.Contains(string(out), "See "+link+" now\r\n") {
			t.Errorf("text, %s: %q", page, out)
		}
		_, result = rewrite(t, []byte("Content-Type: text/html\r\nList-Unsubscribe: <"+link+">\r\n\r\n<a href=\""+link+"\">x</a>\r\n"))
		if want := map[bool]int{true: 2}[jumps]; result.Links != want {
			t.Errorf("html, %s: %d links", page, result.Links)
		}
	}
}
