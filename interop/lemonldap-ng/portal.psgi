# The portal of LemonLDAP::NG with the two users of the matrix. The module Demo takes the user's name as the password.
# The portal always loads the module for captchas, which needs ImageMagick. No captcha is shown here.
BEGIN { $INC{'GD/SecurityImage.pm'} = 1 }

use Lemonldap::NG::Portal::Main;
use Lemonldap::NG::Portal::UserDB::Demo;

%Lemonldap::NG::Portal::UserDB::Demo::demoAccounts = (
    alice => { uid => 'alice', cn => 'Alice Example', mail => 'alice@example.com' },
    bob   => { uid => 'bob', cn => 'Bob Example', mail => 'bob@example.com' },
);
%Lemonldap::NG::Portal::UserDB::Demo::demoGroups = ( admin => ['alice'], users => [qw(alice bob)] );

Lemonldap::NG::Portal::Main->run( {} );
