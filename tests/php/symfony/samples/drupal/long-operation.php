<?php

function my_module_long_operation() {
  $lock = \Drupal::lock();
  if ($lock->acquire('my_module_long_operation')) {
    // ...
    $lock->release('my_module_long_operation');
  }
}
