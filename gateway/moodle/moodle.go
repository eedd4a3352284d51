// Package moodle is the only package that knows Moodle itself: the sessions
// that it keeps in its own Redis, its web services, and its pages.
//
// Two types answer the question who a browser's Moodle session belongs to:
// RedisSessions reads the PHP session where Moodle stores it, Web asks Moodle
// over HTTP. Both take a Browser and return a gateway.Identity; an error means
// that the question could not be answered, never that the browser is nobody's.
//
// Facts marked (source) were read from the code of Moodle 4.5.5.
package moodle

import "net/netip"

// Browser is what an identity source needs to know about a request.
type Browser struct {
	Session   string     // value of Moodle's session cookie, "" without one
	Addr      netip.Addr // the browser's address, as far as it is trusted
	UserAgent string     // raw User-Agent header
}

// DefaultLocalHostID is the id of a Moodle's own row in mnet_host, its
// mnet_localhost_id, on every site whose tables were not made by hand.
const DefaultLocalHostID = 1

// remote reports whether an account lives at another MNet host, the way
// is_mnet_remote_user in lib/moodlelib.php does (source). A localHostID of 0
// stands for DefaultLocalHostID.
func remote(mnetHostID, localHostID int64) bool {
	if localHostID == 0 {
		localHostID = DefaultLocalHostID
	}
	return mnetHostID != 0 && mnetHostID != localHostID
}

// guest reports whether an account is Moodle's shared guest: the first account
// that an installation creates, under a name that nobody else may take.
func guest(id int64, username string) bool {
	return id == 1 || id != 0 && username == "guest"
}
