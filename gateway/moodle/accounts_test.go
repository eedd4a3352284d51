package moodle_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway/moodle"
)

const accountHeader = "kind,id,username,auth,mnethostid,wwwroot,email,suspended,lastaccess,issuerid\n"

const accountSite = "site,1,,,1,https://forum.test,,0,0,0\n"

// batch is CSV as mysql --batch writes it.
func batch(csv string) string { return strings.ReplaceAll(csv, ",", "\t") }

func TestReadAccounts(t *testing.T) {
	ada := moodle.RemoteAccount{ID: 10, Username: "ada", Auth: "mnet", MnetHostID: 7, Wwwroot: "https://home.test", Email: "ada@home.test", LastAccess: 1795369504}
	denied, odd := ada, ada
	denied.Denied = true
	odd.Username, odd.Suspended, odd.LastAccess = "a,\"d\"\\a", true, 0
	for _, test := range []struct {
		name, in string
		want     moodle.Accounts
	}{
		{"no account", accountHeader + accountSite, moodle.Accounts{}},
		{"CSV of psql", accountHeader + "remote,10,ada,mnet,7,https://home.test,ada@home.test,0,1795369504,0\n" + accountSite, moodle.Accounts{Remote: []moodle.RemoteAccount{ada}}},
		{"lines of Windows", strings.ReplaceAll(accountHeader+"remote,10,ada,mnet,7,https://home.test,ada@home.test,0,1795369504,0\n"+accountSite, "\n", "\r\n"), moodle.Accounts{Remote: []moodle.RemoteAccount{ada}}},
		{"what mysql --batch writes", batch(accountHeader + "remote,10,ada,mnet,7,https://home.test,ada@home.test,0,1795369504,0\n" + accountSite), moodle.Accounts{Remote: []moodle.RemoteAccount{ada}}},
		{"one that MNet does not let in", accountHeader + "denied,10,ada,mnet,7,https://home.test,ada@home.test,0,1795369504,0\n" + accountSite, moodle.Accounts{Remote: []moodle.RemoteAccount{denied}}},
		{"CSV with quotes", accountHeader + `remote,10,"a,""d""\a",mnet,7,https://home.test,ada@home.test,1,0,0` + "\n" + accountSite, moodle.Accounts{Remote: []moodle.RemoteAccount{odd}}},
		{"escapes of mysql --batch", batch(accountHeader) + "remote\t10\ta,\"d\"\\\\a\tmnet\t7\thttps://home.test\tada@home.test\t1\t0\t0\n" + batch(accountSite), moodle.Accounts{Remote: []moodle.RemoteAccount{odd}}},
		{"all kinds", accountHeader + "confirming,10,b,,0,,,0,0,4\nlink,10,a,,0,,,0,0,3\nlocal,2,admin,manual,1,,a@x.test,0,0,0\n" + accountSite, moodle.Accounts{
			Local: []moodle.LocalAccount{{ID: 2, Username: "admin", Auth: "manual", Email: "a@x.test"}},
			Links: []moodle.LinkedLogin{{UserID: 10, IssuerID: 4, Username: "b"}, {UserID: 10, IssuerID: 3, Username: "a", Confirmed: true}},
		}},
	} {
		test.want.Wwwroot, test.want.LocalHostID = "https://forum.test", 1
		got, err := moodle.ReadAccounts(strings.NewReader(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(&test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestReadAccountsIsStrict(t *testing.T) {
	const ada = "remote,10,ada,mnet,7,https://home.test,ada@home.test,0,0,0\n"
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "", "the result of the query is not complete: the row of the site itself is missing"},
		{"the header alone", accountHeader, "the result of the query is not complete: the row of the site itself is missing"},
		{"the end is missing", accountHeader + ada, "the result of the query is not complete: the row of the site itself is missing"},
		{"a line is cut off", accountHeader + ada + "site,1,,,1,https://forum.test,,0,0,0", "line 3: its end is missing"},
		{"something comes after the end", accountHeader + accountSite + ada, "line 3: the row of the site itself has been, which is the last"},
		{"other columns", "id,username\n", "line 1: these are not the columns of the query"},
		{"a byte order mark", "\ufeff" + accountHeader, "line 1: these are not the columns of the query"},
		{"psql's table", " kind | id \n", "line 1: these are not the columns of the query"},
		{"Latin-1", accountHeader + "remote,10,\xfc,mnet,7,https://home.test,,0,0,0\n", "line 2: it is not UTF-8"},
		{"UTF-16", "k\x00i\x00\n", "line 1: it holds a NUL"},
		{"a column too few", accountHeader + "remote,10,ada\n", "line 2: it has 3 columns, not 10"},
		{"an empty line", accountHeader + "\n", "line 2: it is empty"},
		{"an empty line of mysql", batch(accountHeader) + "\n", "line 2: it has 1 columns, not 10"},
		{"a quote that is open", accountHeader + "remote,10,\"ada,mnet\n", `line 2: extraneous or missing " in quoted-field`},
		{"another escape", batch(accountHeader) + batch("remote,10,a\\x,mnet,7,h,,0,0,0\n"), "line 2: it has a backslash that mysql --batch would have escaped"},
		{"a backslash at the end", batch(accountHeader) + batch("remote,10,ada,mnet,7,h,,0,0,0\\\n"), "line 2: it has a backslash that mysql --batch would have escaped"},
		{"a NULL", accountHeader + "remote,NULL,ada,mnet,7,h,,0,0,0\n", `line 2: id is not a number: "NULL"`},
		{"a sign", accountHeader + "remote,10,ada,mnet,-7,h,,0,0,0\n", `line 2: mnethostid is not a number: "-7"`},
		{"a zero before a number", accountHeader + "remote,10,ada,mnet,7,h,,0,007,0\n", `line 2: lastaccess is not a number: "007"`},
		{"a number that is too large", accountHeader + "remote,10,ada,mnet,7,h,,0,0,9223372036854775808\n", `line 2: issuerid is not a number: "9223372036854775808"`},
		{"no id", accountHeader + "remote,0,ada,mnet,7,h,,0,0,0\n", "line 2: the id is 0, or suspended is neither 0 nor 1"},
		{"suspended twice", accountHeader + "remote,10,ada,mnet,7,h,,2,0,0\n", "line 2: the id is 0, or suspended is neither 0 nor 1"},
		{"an account twice", accountHeader + ada + "local,10,ada,manual,1,,,0,0,0\n", "line 3: the account 10 is there twice"},
		{"an account let in and not", accountHeader + "denied" + strings.TrimPrefix(ada, "remote") + ada, "line 3: the account 10 is there twice"},
		{"another kind", accountHeader + "user,10,ada,mnet,7,h,,0,0,0\n", `line 2: there is no kind "user"`},
		{"a long line", accountHeader + "remote,10," + strings.Repeat("a", 8<<10) + ",mnet,7,h,,0,0,0\n", "line 2: it is longer than 8192 bytes"},
	} {
		if a, err := moodle.ReadAccounts(strings.NewReader(test.in)); err == nil || err.Error() != test.want {
			t.Errorf("%s: %+v, %v", test.name, a, err)
		}
	}
}

func TestTables(t *testing.T) {
	for _, prefix := range []string{"mdl_", "m2_", ""} {
		tables, err := moodle.ParseTables(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if query := tables.AccountsQuery(); !strings.Contains(query, "FROM "+prefix+"user u\n") || strings.ContainsAny(query, "{}`\"") {
			t.Errorf("%q:\n%s", prefix, query)
		}
	}
	for _, prefix := range []string{"mdl-", "MDL_", "mdl_;", "_x", "1x", "mdl_'", "mdl_\n", "ü", strings.Repeat("m", 21)} {
		if _, err := moodle.ParseTables(prefix); err == nil {
			t.Errorf("%q was taken for a prefix", prefix)
		}
	}
}

func TestTheQueryOnlyReads(t *testing.T) {
	tables, err := moodle.ParseTables("mdl_")
	if err != nil {
		t.Fatal(err)
	}
	query := tables.AccountsQuery()
	if word := regexp.MustCompile(`(?i)\b(insert|update|delete|drop|alter|create|lock|into|set|call|do)\b`).FindString(query); word != "" {
		t.Errorf("the query says %q", word)
	}
	if strings.Count(query, ";") != 1 {
		t.Error("the query is more than one statement")
	}
}

func TestStatements(t *testing.T) {
	tables, err := moodle.ParseTables("m_")
	if err != nil {
		t.Fatal(err)
	}
	account := moodle.RemoteAccount{ID: 10, Username: "ada'; DROP TABLE m_user; --", MnetHostID: 7, Email: "'"}
	link, err := tables.LinkLogin(account, 3, "ada@home.test", time.Unix(1795369660, 0))
	const wantLink = "INSERT INTO m_auth_oauth2_linked_login (timecreated, timemodified, usermodified, userid, issuerid, username, email, confirmtoken, confirmtokenexpires)" +
		" SELECT 1795369660, 1795369660, 0, u.id, i.id, 'ada@home.test', u.email, '', 0 FROM m_user u, m_oauth2_issuer i WHERE u.id = 10 AND u.mnethostid = 7 AND u.deleted = 0 AND i.id = 3" +
		" AND NOT EXISTS (SELECT 1 FROM m_auth_oauth2_linked_login l WHERE l.issuerid = 3 AND l.username = 'ada@home.test');"
	if err != nil || link != wantLink {
		t.Errorf("%v\n%s", err, link)
	}
	local, err := tables.MakeLocal(account, 1, "ada@home.test")
	if err != nil || local != "UPDATE m_user SET auth = 'shibboleth', mnethostid = 1, username = 'ada@home.test' WHERE id = 10 AND mnethostid = 7 AND deleted = 0;" {
		t.Errorf("%v\n%s", err, local)
	}
	if got := tables.Issuer(3); got != "SELECT id, name, baseurl FROM m_oauth2_issuer WHERE id = 3;" {
		t.Error(got)
	}
}

// harmless is what a statement may consist of: no escape, no comment, one end.
var harmless = regexp.MustCompile(`^[A-Za-z0-9_ ,.(=)@-]*('[-._@a-z0-9]{0,100}'[A-Za-z0-9_ ,.(=)@-]*)+;$`)

// FuzzStatements looks for a name that gets out of its quotes.
func FuzzStatements(f *testing.F) {
	for _, name := range []string{"ada", "ada'", `ada\`, "a;b", "", "a--b", "a/*b", "{user}", "ü", "a\n", "a\x00", ":a", "%d"} {
		f.Add(name)
	}
	tables, err := moodle.ParseTables("mdl_")
	if err != nil {
		f.Fatal(err)
	}
	account := moodle.RemoteAccount{ID: math.MaxInt64, MnetHostID: 7}
	f.Fuzz(func(t *testing.T, name string) {
		link, linkErr := tables.LinkLogin(account, 3, name, time.Unix(0, 0))
		local, localErr := tables.MakeLocal(account, 1, name)
		if (linkErr == nil) != (localErr == nil) {
			t.Fatalf("%q: %v, %v", name, linkErr, localErr)
		}
		for _, s := range []string{link, local} {
			if linkErr == nil && (!harmless.MatchString(s) || !strings.Contains(s, "'"+name+"'")) {
				t.Errorf("%q: %s", name, s)
			}
		}
	})
}

// FuzzReadAccounts looks for a panic, and for rows that no query gives.
func FuzzReadAccounts(f *testing.F) {
	rows := accountHeader + "confirming,10,b,,0,,,0,0,4\nlocal,2,\"ad\"\"min\",manual,1,,a@x.test,0,0,0\nremote,10,ada,mnet,7,https://home.test,,1,5,0\n" + accountSite
	f.Add([]byte(rows))
	f.Add([]byte(batch(rows)))
	f.Add([]byte(strings.ReplaceAll(batch(rows), "ada", `a\td\\a\0`)))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := moodle.ReadAccounts(strings.NewReader(string(in)))
		if err != nil {
			return
		}
		if a.LocalHostID <= 0 {
			t.Error("there is no row of the site")
		}
		seen := map[int64]bool{}
		for _, r := range a.Remote {
			if seen[r.ID] || r.ID <= 0 || r.MnetHostID < 0 || r.LastAccess < 0 || len(r.Username) > 8<<10 {
				t.Error(fmt.Sprint("wrong: ", r))
			}
			seen[r.ID] = true
		}
	})
}
