<?php

use Symfony\Component\Lock\Store\FlockStore;

// the argument is the path of the directory where the locks are created
$store = new FlockStore(sys_get_temp_dir());
