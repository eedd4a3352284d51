package moodle

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Tables writes SQL for an administrator to run in Moodle's database, PostgreSQL
// or MySQL and MariaDB alike. What it writes consists of its own words, numbers,
// and names of Moodle's smallest alphabet: nothing in it needs an escape.
type Tables struct{ prefix string }

var tablePrefix = regexp.MustCompile(`^([a-z][a-z0-9_]{0,19})?$`)

// ParseTables reads the prefix of Moodle's tables ($CFG->prefix).
func ParseTables(prefix string) (Tables, error) {
	if !tablePrefix.MatchString(prefix) {
		return Tables{}, fmt.Errorf("%q is no prefix of tables: small letters, digits and _ are", prefix)
	}
	return Tables{prefix}, nil
}

// named puts the prefix before the names of tables, written {user}.
func (t Tables) named(query string) string {
	return strings.NewReplacer("{", t.prefix, "}", "").Replace(query)
}

// AccountsQuery returns the SELECT whose result ReadAccounts reads. It looks at
// each account and each linked login once, and changes and locks nothing. It
// needs MySQL 8, MariaDB 10.2 or any PostgreSQL, as Moodle 4.2 and newer do.
//
// Of local accounts and links it takes those that have to do with a remote one:
// the same username or mail address; or the host of a home, or the "_-" of
// gateway.AccountNames, in a name. The row of the site itself comes last, which shows
// that nothing is missing.
func (t Tables) AccountsQuery() string { return t.named(accountsQuery) }

const accountsQuery = `WITH here AS (
  SELECT h.id, h.wwwroot
    FROM {config} c JOIN {mnet_host} h ON h.id = CAST(c.value AS DECIMAL(20))
   WHERE c.name = 'mnet_localhost_id'
), remote AS (
  SELECT CASE WHEN COALESCE(a.accessctrl, 'allow') = 'allow' THEN 'remote' ELSE 'denied' END AS kind,
         u.id, u.username, u.auth, u.mnethostid, COALESCE(h.wwwroot, '') AS wwwroot, u.email, u.suspended, u.lastaccess
    FROM {user} u LEFT JOIN {mnet_host} h ON h.id = u.mnethostid
         LEFT JOIN {mnet_sso_access_control} a ON a.mnet_host_id = u.mnethostid AND a.username = u.username
   WHERE u.deleted = 0 AND u.mnethostid <> (SELECT id FROM here)
), addresses AS (
  SELECT DISTINCT SUBSTRING(LOWER(wwwroot) FROM POSITION('//' IN wwwroot) + 2) AS address
    FROM remote WHERE POSITION('//' IN wwwroot) > 0
), hostports AS (
  SELECT DISTINCT SUBSTRING(address FROM 1 FOR POSITION('/' IN CONCAT(address, '/')) - 1) AS hostport FROM addresses
), hosts AS (
  SELECT DISTINCT SUBSTRING(hostport FROM 1 FOR POSITION(':' IN CONCAT(hostport, ':')) - 1) AS host FROM hostports
)
SELECT 'site' AS kind, id, '' AS username, '' AS auth, id AS mnethostid, wwwroot, '' AS email, 0 AS suspended, 0 AS lastaccess, 0 AS issuerid
  FROM here
UNION ALL
SELECT kind, id, username, auth, mnethostid, wwwroot, email, suspended, lastaccess, 0
  FROM remote
UNION ALL
SELECT 'local', u.id, u.username, u.auth, u.mnethostid, '', u.email, 0, 0, 0
  FROM {user} u
 WHERE u.deleted = 0 AND u.mnethostid = (SELECT id FROM here)
   AND (u.username IN (SELECT username FROM remote)
        OR LOWER(u.email) IN (SELECT LOWER(email) FROM remote WHERE email <> '')
        OR POSITION('_-' IN u.username) > 0
        OR EXISTS (SELECT 1 FROM hosts WHERE host <> '' AND POSITION(host IN u.username) > 0))
UNION ALL
SELECT CASE WHEN l.confirmtoken = '' THEN 'link' ELSE 'confirming' END, l.userid, l.username, '', 0, '', '', 0, 0, l.issuerid
  FROM {auth_oauth2_linked_login} l
 WHERE l.userid IN (SELECT id FROM remote)
    OR l.username IN (SELECT username FROM remote)
    OR POSITION('_-' IN l.username) > 0
    OR EXISTS (SELECT 1 FROM hosts WHERE host <> '' AND POSITION(host IN l.username) > 0)
ORDER BY kind, id;
`

// errName keeps everything out of SQL that would need an escape.
var errName = errors.New("the name is none that a Moodle of any settings takes")

var plainName = regexp.MustCompile(`^[-._@a-z0-9]{1,100}$`)

// Issuer returns the SELECT that shows which OpenID provider has an id.
func (t Tables) Issuer(id int64) string {
	return t.named(fmt.Sprintf("SELECT id, name, baseurl FROM {oauth2_issuer} WHERE id = %d;", id))
}

// LinkLogin returns the INSERT by which whoever the issuer calls name is logged
// in to an account that lives at another host, as auth_oauth2 itself would have
// written it (source). It does nothing if the name is linked already, and if
// account or issuer are not there any more. It is one line.
func (t Tables) LinkLogin(account RemoteAccount, issuerID int64, name string, now time.Time) (string, error) {
	if !plainName.MatchString(name) {
		return "", errName
	}
	return t.named(fmt.Sprintf("INSERT INTO {auth_oauth2_linked_login} (timecreated, timemodified, usermodified, userid, issuerid, username, email, confirmtoken, confirmtokenexpires)"+
		" SELECT %[1]d, %[1]d, 0, u.id, i.id, '%[2]s', u.email, '', 0 FROM {user} u, {oauth2_issuer} i"+
		" WHERE u.id = %[3]d AND u.mnethostid = %[4]d AND u.deleted = 0 AND i.id = %[5]d"+
		" AND NOT EXISTS (SELECT 1 FROM {auth_oauth2_linked_login} l WHERE l.issuerid = %[5]d AND l.username = '%[2]s');",
		now.Unix(), name, account.ID, account.MnetHostID, issuerID)), nil
}

// MakeLocal returns the UPDATE that makes an account of another host one of our
// own, with a new name, which the plugin auth_shibboleth logs in to. It does
// nothing the second time. It is one line.
func (t Tables) MakeLocal(account RemoteAccount, localHostID int64, name string) (string, error) {
	if !plainName.MatchString(name) {
		return "", errName
	}
	return t.named(fmt.Sprintf("UPDATE {user} SET auth = 'shibboleth', mnethostid = %d, username = '%s' WHERE id = %d AND mnethostid = %d AND deleted = 0;",
		localHostID, name, account.ID, account.MnetHostID)), nil
}
